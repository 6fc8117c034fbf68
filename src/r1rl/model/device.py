"""What a pass computes in, and how values get to the device without making the host wait for it."""

from __future__ import annotations

import torch
from torch import Tensor


def upload(x: Tensor, device: torch.device) -> Tensor:
    """``x``, a tensor in host memory, on ``device``. A GPU copies it from pinned memory when its stream gets there; a
    plain copy would make the host wait for everything that was launched before."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


def pass_dtype(x: Tensor) -> torch.dtype:
    """Autocast's type on the device of ``x``, or that of ``x`` outside autocast."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype

"""The tensors of a model that belong to its checkpoint: parameters and persistent buffers, each once."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn


def persistent_buffers(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Buffers that are part of a checkpoint, by name, for example DeepSeek-V3's ``e_score_correction_bias``.

    Those that a model computes from its configuration (``inv_freq``) are registered as non-persistent and left out.
    """
    seen: set[int] = set()
    for prefix, inner in module.named_modules():
        for name, buffer in inner.named_buffers(recurse=False):
            if name not in inner._non_persistent_buffers_set and id(buffer) not in seen:
                seen.add(id(buffer))
                yield f"{prefix}.{name}" if prefix else name, buffer


def named_state(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters, then persistent buffers."""
    yield from module.named_parameters()
    yield from persistent_buffers(module)

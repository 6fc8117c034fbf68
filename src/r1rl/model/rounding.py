"""How far rounding moves a model's log-probabilities: passes of the same weights in another precision."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from r1rl.model.forward import PolicyForward


@contextlib.contextmanager
def computing_in(dtype: torch.dtype, forward: PolicyForward) -> Iterator[None]:
    """Inside the block ``forward`` computes with weights in ``dtype``.

    Each module's own weights are converted when it is called and restored afterwards, so that no second copy of the
    model exists, and weights that ZeRO-3 gathers per module are converted once they are whole. The model's own weights
    are never changed. For passes without gradients only.
    """
    weights = {module: list(module.parameters(recurse=False)) for module in forward.model.modules()}
    weights[forward.head] = list(forward.head.parameters())  # uses its weight without calling the module that owns it
    conversion = _Conversion(dtype, {module: found for module, found in weights.items() if found})
    with contextlib.ExitStack() as hooks:
        for handle in conversion.register():
            hooks.callback(handle.remove)
        yield


class _Conversion:
    def __init__(self, dtype: torch.dtype, weights: dict[nn.Module, list[nn.Parameter]]) -> None:
        self.dtype, self.weights = dtype, weights
        self.kept: list[list[Tensor]] = []
        """The original weights of the modules that are running, innermost last."""

    def register(self) -> Iterable[torch.utils.hooks.RemovableHandle]:
        # Innermost of all hooks: what gathers and releases weights runs before and after.
        before = (module.register_forward_pre_hook(self.convert) for module in self.weights)
        after = (module.register_forward_hook(self.restore, prepend=True, always_call=True) for module in self.weights)
        return list(chain(before, after))

    def convert(self, module: nn.Module, *_: Any) -> None:
        self.kept.append([weight.data for weight in self.weights[module]])
        for weight in self.weights[module]:
            if weight.is_floating_point():
                weight.data = weight.data.to(self.dtype)

    def restore(self, module: nn.Module, *_: Any) -> None:
        for weight, original in zip(self.weights[module], self.kept.pop(), strict=True):
            weight.data = original

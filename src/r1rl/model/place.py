"""Puts memory-mapped weights where they are computed with, one parameter at a time, so that no rank ever holds more
than its own part and one parameter of the model besides.

:func:`r1rl.model.load.load_policy` with ``mapped`` leaves the weights in the checkpoint's files. They take no memory of
their own: all processes of a host share the file cache.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

HALVES = (torch.bfloat16, torch.float16)


def place(module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Move every parameter to ``device`` in ``dtype``; buffers as :func:`place_buffers`."""
    for parameter in module.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(device, dtype)
    place_buffers(module, device)


def place_buffers(module: nn.Module, device: torch.device) -> None:
    """Move every buffer to ``device``, those of half precision as float32."""
    for buffer in module.buffers():
        buffer.data = buffer.data.to(device, torch.float32 if buffer.dtype in HALVES else buffer.dtype)


def shard(module: nn.Module, settings: dict[str, Any], device: torch.device, dtype: torch.dtype) -> None:
    """Shard every parameter for ZeRO-3. Collective; the first rank's values count.

    Args:
        settings: DeepSpeed's, with ``zero_optimization`` and batch sizes.
        device: of the buffers, which every rank holds whole.
        dtype: of the shards.
    """
    from deepspeed import zero

    place_buffers(module, device)
    first: Any = None
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)
        if first is None:
            first = parameter
            zero.Init(module=nn.ParameterList([first]), config_dict_or_path=settings, dtype=dtype)
        else:
            first.convert_to_zero_parameters([parameter])  # zero.Init has added this method


def hollow(model: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """A second model of the same kind without gradients; its parameters are whole and not initialized, its buffers are
    copies."""
    with torch.device("meta"):
        other: Any = type(model)(model.config)
    other = other.to(dtype).to_empty(device=device).requires_grad_(False)
    other.tie_weights()
    for there, here in zip(other.modules(), model.modules(), strict=True):
        there._buffers.update({name: None if b is None else b.clone() for name, b in here._buffers.items()})
    other.generation_config = model.generation_config
    copied: PreTrainedModel = other
    return copied


def layers(model: nn.Module) -> Iterator[nn.Module]:
    """The parts of a model that are computed one after the other: each layer of a stack, and what is around it."""
    for child in model.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        elif any(isinstance(inner, nn.ModuleList) for inner in child.modules()):
            yield from layers(child)
        else:
            yield child


def largest_block(model: nn.Module) -> int:
    """Parameters of the largest layer, embeddings and output head left out."""
    sizes = [
        sum(p.numel() for p in layer.parameters())
        for layer in layers(model)
        if not isinstance(layer, nn.Embedding | nn.Linear)
    ]
    return max(sizes, default=0)


@contextlib.contextmanager
def streamed(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Inside the block each layer's parameters are on ``device`` in float32 while the layer is computed, and only then.

    For a forward pass through a memory-mapped model; buffers have to be on ``device`` already.
    """
    parts = [_Streamed(list(layer.parameters()), device) for layer in layers(model)]
    hooks: list[Any] = []
    for layer, part in zip(layers(model), parts, strict=True):
        hooks += [
            layer.register_forward_pre_hook(part.bring),
            layer.register_forward_hook(part.put_back, always_call=True),
        ]
    inside = {id(parameter) for part in parts for parameter in part.parameters}
    around = _Streamed([p for p in model.parameters() if id(p) not in inside], device)
    around.bring()
    try:
        yield
    finally:
        around.put_back()
        for hook in hooks:
            hook.remove()


class _Streamed:
    """Parameters that are replaced by float32 copies for a while."""

    def __init__(self, parameters: list[nn.Parameter], device: torch.device) -> None:
        self.parameters, self.device = parameters, device
        self.kept: list[Tensor] = []

    def bring(self, *_: Any) -> None:
        self.kept = [parameter.data for parameter in self.parameters]
        for parameter in self.parameters:
            parameter.data = parameter.data.to(self.device, torch.float32)

    def put_back(self, *_: Any) -> None:
        for parameter, data in zip(self.parameters, self.kept, strict=True):
            parameter.data = data
        self.kept = []

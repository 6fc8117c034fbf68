"""The policy that the KL term measures the distance to."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from r1rl.distributed.shards import NamedTensor
from r1rl.grpo.backend import Backend
from r1rl.model.forward import PackedTokens, PolicyForward
from r1rl.model.lora import adapters_off


class ReferencePolicy(Protocol):
    """Log-probabilities under fixed weights."""

    def __call__(self, tokens: PackedTokens) -> Tensor:
        """[C] float32, no gradient; collective where weights are sharded."""

    def replace(self, weights: Iterable[NamedTensor]) -> None:
        """Use these weights from now on."""


class FrozenCopy:
    """Its own copy of the weights: the initial policy, or the policy when they were last replaced."""

    def __init__(self, forward: PolicyForward, backend: Backend) -> None:
        self.forward, self.backend = forward, backend

    @torch.no_grad()
    def __call__(self, tokens: PackedTokens) -> Tensor:
        logps_C: Tensor = self.forward(tokens)[0]
        return logps_C

    def replace(self, weights: Iterable[NamedTensor]) -> None:
        self.backend.assign(self.forward, weights)

    def weights(self) -> Iterator[NamedTensor]:
        """Whole tensors, one at a time; collective."""
        return self.backend.gather_placed(self.forward)


class AdaptersOff:
    """The policy itself without its LoRA adapters: a reference that costs no memory."""

    def __init__(self, forward: Callable[..., Any], model: nn.Module) -> None:
        self.forward, self.model = forward, model

    @torch.no_grad()
    def __call__(self, tokens: PackedTokens) -> Tensor:
        with adapters_off(self.model):
            logps_C: Tensor = self.forward(tokens)[0]
            return logps_C

    def replace(self, weights: Iterable[NamedTensor]) -> None:
        raise NotImplementedError("the configuration excludes ref_update_every with LoRA")


def frozen(forward: PolicyForward, mapped: bool = False) -> PolicyForward:
    """A copy without gradients, which computes the same function.

    Weights that autocast would convert on every pass are converted once: under bfloat16 a reference takes little more
    than half of the policy's memory.

    Args:
        mapped: the policy's weights are memory-mapped: the copy shares them until a backend places it.
    """
    narrow = set() if mapped or forward.autocast is None else converted_by_autocast(forward)
    copies: dict[int, Any] = {}
    for p in forward.parameters():
        dtype = forward.autocast if id(p) in narrow else p.dtype
        data = p.data if mapped else p.data.to(dtype, copy=True)
        copies[id(p)] = nn.Parameter(data, requires_grad=False)
    return copy.deepcopy(forward, copies).eval()


def converted_by_autocast(forward: PolicyForward) -> set[int]:
    """``id`` of the parameters that autocast converts on every pass and nothing else reads: those of linear layers, but
    not of the output head, which may be computed in float32 or tied to the embeddings."""
    head = {id(p) for p in forward.head.head.parameters()}
    linear = [m for m in forward.model.modules() if isinstance(m, nn.Linear)]
    return {id(p) for layer in linear for p in layer.parameters()} - head

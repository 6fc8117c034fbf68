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


def frozen(forward: PolicyForward) -> PolicyForward:
    """A copy without gradients."""
    return copy.deepcopy(forward).eval().requires_grad_(False)

"""Reduces gradients and updates weights: one process, DDP, or DeepSpeed ZeRO, behind one small protocol.

The learner uses only the protocol. A new backend is one class and one row of :data:`BACKENDS`.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from r1rl.config.grpo import GRPOConfig
from r1rl.distributed.collectives import gather
from r1rl.distributed.shards import NamedTensor
from r1rl.model.forward import PolicyForward
from r1rl.model.load import Policy
from r1rl.model.state import named_state, persistent_buffers

ADAM_SLOTS = ("exp_avg", "exp_avg_sq")
"""AdamW's running averages, each one tensor per parameter."""


class Backend(Protocol):
    """One rank's part in the updates. Every method is collective: all ranks call it, in the same order."""

    rank: int
    ranks: int
    device: torch.device
    forward: Callable[..., tuple[Tensor, Tensor | None]]
    """The policy's forward pass with whatever the backend wraps around it."""

    def backward(self, loss: Tensor, last: bool) -> None:
        """Add the gradient of the sum of ``loss`` over ranks; ``last`` on an update's last micro-batch."""

    def step(self, lr: float) -> Tensor:
        """Clip, update and clear the gradients. Returns the gradient's norm before clipping, [] float32 on the device;
        an update whose norm is not finite was left out."""

    def sum(self, value: Tensor) -> Tensor:
        """Sum over ranks, on every rank."""

    def gather(self, items: list[Any]) -> list[Any]:
        """The items of all ranks, in rank order, on every rank."""

    def weights(self, dtype: torch.dtype = torch.float32) -> Iterator[NamedTensor]:
        """The trained weights and the model's persistent buffers as whole tensors, one at a time, by name; ``dtype`` as
        in :meth:`r1rl.model.load.Policy.weights`."""

    def adam(self) -> Iterator[NamedTensor]:
        """AdamW's averages as whole tensors, one at a time, as ``SLOT/NAME``; nothing before the first update."""

    def adam_steps(self) -> int:
        """Number of updates that AdamW has counted."""

    def load(self, weights: Iterable[NamedTensor], adam: Iterable[NamedTensor], steps: int) -> None:
        """Take optimizer state that :meth:`adam` gave, at any number of ranks and by any backend.

        ``weights`` are the float32 weights for backends whose copy of the model is of lower precision.
        """

    def place(self, module: PolicyForward) -> PolicyForward:
        """Place a frozen module, memory-mapped if the policy was, so that forward passes without gradients can run
        through it."""

    def assign(self, module: nn.Module, weights: Iterable[NamedTensor]) -> None:
        """Overwrite weights and persistent buffers of a placed module, by their names in the model."""

    def gather_placed(self, module: nn.Module) -> Iterator[NamedTensor]:
        """The weights and persistent buffers of a placed module as whole tensors."""

    def sampler(self) -> Policy:
        """The policy to sample from without the other ranks: itself, or a copy that its ``refresh`` keeps current."""


class AccelerateBackend:
    """One process, or a whole model on each of several (DDP)."""

    def __init__(
        self, policy: Policy, forward: nn.Module, optimizer: torch.optim.Optimizer, cfg: GRPOConfig, accel: Accelerator
    ) -> None:
        self.policy, self.cfg, self.accelerator = policy, cfg, accel
        self.rank, self.ranks, self.device = accel.process_index, accel.num_processes, accel.device
        self.names = {name: p for name, p in policy.model.named_parameters() if p.requires_grad}
        self.forward, self.optimizer = accel.prepare(forward, optimizer)

    def backward(self, loss: Tensor, last: bool) -> None:
        # DDP averages over ranks, while the losses are shares of a sum: undo the average.
        with contextlib.nullcontext() if last else self.accelerator.no_sync(self.forward):
            self.accelerator.backward(loss * self.ranks)

    def step(self, lr: float) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        norm: Tensor = self.accelerator.clip_grad_norm_(self.forward.parameters(), self.cfg.max_grad_norm)
        # Read by fused AdamW, as under a GradScaler: the device decides, and the host need not wait for the norm.
        self._inner.found_inf = norm.isfinite().logical_not().float()  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad()
        return norm.float()

    def sum(self, value: Tensor) -> Tensor:
        total: Tensor = self.accelerator.reduce(value.detach().clone(), "sum")
        return total

    def gather(self, items: list[Any]) -> list[Any]:
        return gather(items)

    def weights(self, dtype: torch.dtype = torch.float32) -> Iterator[NamedTensor]:
        del dtype  # they are float32
        yield from ((name, p.detach()) for name, p in self.names.items())
        yield from persistent_buffers(self.policy.model)

    def adam(self) -> Iterator[NamedTensor]:
        state = self._inner.state
        for slot in ADAM_SLOTS:
            yield from ((f"{slot}/{name}", state[p][slot]) for name, p in self.names.items() if p in state)

    def adam_steps(self) -> int:
        return max((int(s["step"]) for s in self._inner.state.values()), default=0)

    def load(self, weights: Iterable[NamedTensor], adam: Iterable[NamedTensor], steps: int) -> None:
        del weights  # the model holds them already, in float32
        for key, value in adam:
            slot, _, name = key.partition("/")
            state = self._inner.state[self.names[name]]
            state[slot] = value.to(self.device)
            state["step"] = torch.tensor(float(steps), device=self.device if self.device.type == "cuda" else "cpu")

    def place(self, module: PolicyForward) -> PolicyForward:
        return module

    def assign(self, module: nn.Module, weights: Iterable[NamedTensor]) -> None:
        assign(module, weights)

    def gather_placed(self, module: nn.Module) -> Iterator[NamedTensor]:
        yield from named_state(inner(module))

    def sampler(self) -> Policy:
        return self.policy

    @property
    def _inner(self) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = getattr(self.optimizer, "optimizer", self.optimizer)
        return optimizer


def inner(module: nn.Module) -> nn.Module:
    """The model inside a placed forward, or the model itself."""
    unwrapped = getattr(module, "module", module)
    return unwrapped.model if isinstance(unwrapped, PolicyForward) else unwrapped


@torch.no_grad()
def assign(module: nn.Module, weights: Iterable[NamedTensor]) -> None:
    """Overwrite whole parameters and persistent buffers by name."""
    state = dict(named_state(inner(module)))
    for name, value in weights:
        state[name].copy_(value)


BackendFactory = Callable[[Policy, nn.Module, torch.optim.Optimizer, GRPOConfig, Accelerator], Backend]

BACKENDS: dict[str, BackendFactory | str] = {"DEEPSPEED": "r1rl.grpo.zero:ZeroBackend"}
"""By accelerate's distributed type; all others use :class:`AccelerateBackend`."""


def places_weights(accelerator: Accelerator) -> bool:
    """Whether the backend that ``accelerate launch`` was configured for takes a memory-mapped policy and places its
    weights itself; the others need them on the device."""
    return accelerator.distributed_type.value in BACKENDS


def build_backend(
    policy: Policy, forward: nn.Module, optimizer: torch.optim.Optimizer, cfg: GRPOConfig, accelerator: Accelerator
) -> Backend:
    """The backend that ``accelerate launch`` was configured for."""
    build = BACKENDS.get(accelerator.distributed_type.value, AccelerateBackend)
    if isinstance(build, str):
        module, _, name = build.partition(":")
        build = cast(BackendFactory, getattr(importlib.import_module(module), name))
    return build(policy, forward, optimizer, cfg, accelerator)

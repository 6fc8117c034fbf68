"""DeepSpeed ZeRO 1, 2 and 3: optimizer states, gradients and weights sharded over the ranks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import deepspeed
import torch
from accelerate import Accelerator
from deepspeed import zero
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_get_local_fp32_param,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
    set_z3_leaf_modules,
)
from torch import Tensor, nn
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from r1rl.config.grpo import GRPOConfig
from r1rl.distributed.collectives import gather
from r1rl.distributed.shards import NamedTensor
from r1rl.errors import ConfigError
from r1rl.grpo.backend import ADAM_SLOTS, Step, inner
from r1rl.model.forward import ChunkedHead, PolicyForward
from r1rl.model.load import Policy
from r1rl.model.lora import adapted
from r1rl.model.state import named_state, persistent_buffers


class ZeroBackend:
    """Drives DeepSpeed's engine itself: accelerate would step it on every micro-batch.

    The engine divides by its accumulation steps, so these stay 1 and the boundary is set by hand; it averages over
    ranks, which the losses undo; it clips by its own configuration only.
    """

    def __init__(
        self, policy: Policy, forward: nn.Module, optimizer: torch.optim.Optimizer, cfg: GRPOConfig, accel: Accelerator
    ) -> None:
        self.policy, self.cfg, self.accelerator = policy, cfg, accel
        self.rank, self.ranks, self.device = accel.process_index, accel.num_processes, accel.device
        plugin = accel.state.deepspeed_plugin
        self.stage = int(plugin.deepspeed_config["zero_optimization"]["stage"])
        half = getattr(forward, "autocast", None) is torch.bfloat16
        plugin.deepspeed_config.update(engine_settings(cfg.max_grad_norm, self.ranks, half))
        self.names = {name: p for name, p in policy.model.named_parameters() if p.requires_grad}
        self._replica: Policy | None = None
        if self.stage == 3 and adapted(policy.model):
            raise ConfigError("model.lora is not supported with ZeRO-3; adapters are small, so use ZeRO-2")
        set_z3_leaf_modules(forward, [ChunkedHead], raise_if_not_found=False)
        self.forward, _ = accel.prepare(forward, optimizer)
        unset_hf_deepspeed_config()  # accelerate sets it again
        policy.gather = self.weights

    def backward(self, loss: Tensor, last: bool) -> None:
        self.forward.set_gradient_accumulation_boundary(last)
        self.forward.backward(loss * self.ranks)

    def step(self, lr: float) -> Step:
        for group in self._zero.param_groups:
            group["lr"] = lr
        self.forward.step()
        norm = float(self.forward.get_global_grad_norm())
        return Step(norm, self.forward.was_step_applied() and math.isfinite(norm))

    def sum(self, value: Tensor) -> Tensor:
        total: Tensor = self.accelerator.reduce(value.detach().clone(), "sum")
        return total

    def gather(self, items: list[Any]) -> list[Any]:
        return gather(items)

    def weights(self) -> Iterator[NamedTensor]:
        for name, p in self.names.items():
            yield name, safe_get_full_fp32_param(p)
        yield from persistent_buffers(self.policy.model)

    def adam(self) -> Iterator[NamedTensor]:
        if not self.adam_steps():
            return
        self._link_states()
        for slot in ADAM_SLOTS:
            for name, p in self.names.items():
                yield f"{slot}/{name}", safe_get_full_optimizer_state(p, slot)

    def adam_steps(self) -> int:
        return max((int(s["step"]) for s in self._zero.optimizer.state.values() if "step" in s), default=0)

    def load(self, weights: Iterable[NamedTensor], adam: Iterable[NamedTensor], steps: int) -> None:
        for name, value in weights:
            if name in self.names:  # buffers are whole on every rank, and were loaded with the model
                self._set(self.names[name], value, None)
        if not steps:
            return
        self._create_states(steps)
        for key, value in adam:
            slot, _, name = key.partition("/")
            self._set(self.names[name], value, slot)

    def place(self, module: PolicyForward) -> PolicyForward:
        if self.stage < 3:
            return module
        config = {
            "train_micro_batch_size_per_gpu": 1,
            "train_batch_size": self.ranks,
            "zero_optimization": {"stage": 3},
            "bf16": {"enabled": module.autocast is torch.bfloat16},
        }
        set_z3_leaf_modules(module, [ChunkedHead])
        placed: PolicyForward = deepspeed.initialize(model=module, config=config)[0]
        return placed

    @torch.no_grad()
    def assign(self, module: nn.Module, weights: Iterable[NamedTensor]) -> None:
        state = dict(named_state(inner(module)))
        for name, value in weights:
            sharded = self.stage == 3 and isinstance(state[name], nn.Parameter)
            with zero.GatheredParameters([state[name]], modifier_rank=0, enabled=sharded):
                state[name].copy_(value)

    @torch.no_grad()
    def gather_placed(self, module: nn.Module) -> Iterator[NamedTensor]:
        for name, p in inner(module).named_parameters():
            with zero.GatheredParameters([p], enabled=self.stage == 3):
                yield name, p.detach().clone()
        yield from persistent_buffers(inner(module))

    def sampler(self) -> Policy:
        """Under ZeRO-3 a full copy: ranks sample different lengths, so weights cannot be gathered during sampling."""
        if self.stage < 3:
            return self.policy
        if self._replica is None:
            model = type(self.policy.model)(self.policy.model.config).requires_grad_(False)
            self._replica = Policy(model.to(self.device), self.policy.tokenizer, refresh=self._refresh)
        return self._replica

    def _set(self, p: nn.Parameter, value: Tensor, slot: str | None) -> None:
        value = value.to(self.device)
        if self.stage < 3:
            set_full = safe_set_full_fp32_param if slot is None else safe_set_full_optimizer_state
            set_full(p, value, *([] if slot is None else [slot]))
            return
        # Shards are padded to equal sizes, which DeepSpeed's own setter of whole tensors does not do.
        size = safe_get_local_fp32_param(p).numel()
        padded = torch.zeros(size * self.ranks, dtype=value.dtype, device=self.device)
        padded[: value.numel()] = value.flatten()
        shard = padded.narrow(0, size * self.rank, size)
        if slot is None:
            safe_set_local_fp32_param(p, shard)
        else:
            safe_set_local_optimizer_state(p, shard, slot)

    def _create_states(self, steps: int) -> None:
        """AdamW creates its averages in its first step; create them now, so that they can be loaded."""
        adam = self._zero.optimizer
        zero3 = self.stage == 3
        for flat in self._zero.fp32_partitioned_groups_flat if zero3 else self._zero.single_partition_of_fp32_groups:
            state = adam.state[flat]
            for slot in ADAM_SLOTS:
                state.setdefault(slot, torch.zeros_like(flat))
            state["step"] = torch.tensor(float(steps)) if isinstance(adam, torch.optim.AdamW) else steps
        self._link_states()

    def _link_states(self) -> None:
        """ZeRO-1 and 2 link parameters to their averages once, after the first group's first step, when those of the
        other groups do not exist yet: link again."""
        if self.stage < 3:
            self._zero._hp_optimizer_states_linked = False
            self._zero._lazy_init_hp_params_optimizer_state()

    @torch.no_grad()
    def _refresh(self) -> None:
        assert self._replica is not None
        copies = dict(named_state(self._replica.model))
        for name, p in self.names.items():
            with zero.GatheredParameters([p]):
                copies[name].copy_(p)
        for name, buffer in persistent_buffers(self.policy.model):
            copies[name].copy_(buffer)

    @property
    def _zero(self) -> Any:
        return self.forward.optimizer


def engine_settings(clip: float, ranks: int, half: bool) -> dict[str, Any]:
    """The DeepSpeed settings that the run's configuration decides, whatever the launch file says."""
    settings: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "train_batch_size": ranks,
        "gradient_clipping": clip,
        "steps_per_print": 1_000_000_000,
    }
    if half:
        settings |= {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}}
    return settings

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
from r1rl.grpo.backend import ADAM_SLOTS, inner
from r1rl.model.forward import ChunkedHead, PolicyForward
from r1rl.model.load import Policy
from r1rl.model.lora import adapted
from r1rl.model.place import hollow, largest_block, place, shard
from r1rl.model.state import named_state, persistent_buffers

_MASTERS = ("fp32_partitioned_groups_flat", "single_partition_of_fp32_groups", "fp32_groups_flat_partition")
"""Where DeepSpeed's optimizers keep a rank's float32 weights: ZeRO-3; ZeRO-1 and 2; and ZeRO-1 in bfloat16 with float32
gradients, which is another class (``BF16_Optimizer``)."""
SUB_GROUP = 100_000_000
"""Values that ZeRO-3's optimizer updates at once, and of whose gradients it makes a copy."""


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
        settings = accel.state.deepspeed_plugin.deepspeed_config
        self.stage = int(settings["zero_optimization"]["stage"])
        half = getattr(forward, "autocast", None) is torch.bfloat16
        self.dtype = torch.bfloat16 if half else torch.float32
        """Of the weights that forward passes use; the optimizer's are float32."""
        settings.update(engine_settings(cfg.max_grad_norm, self.ranks, half))
        if self.stage == 3:
            fill(settings["zero_optimization"], sharding_limits(policy.model))
        self.settings = settings
        self.names = {name: p for name, p in policy.model.named_parameters() if p.requires_grad}
        self._replica: Policy | None = None
        if self.stage == 3 and adapted(policy.model):
            raise ConfigError("model.lora is not supported with ZeRO-3; adapters are small, so use ZeRO-2")
        self._take(forward)
        policy.mapped = False
        self.forward, _ = accel.prepare(forward, optimizer)
        unset_hf_deepspeed_config()  # accelerate sets it again
        policy.gather = self.weights

    def _take(self, module: nn.Module) -> None:
        """Put a module's weights on this rank's device, or its part of them."""
        if self.stage < 3:
            place(module, self.device, self.dtype)
            return
        for head in (m for m in module.modules() if isinstance(m, ChunkedHead)):
            gather_with(head)
        shard(module, self._frozen_settings(), self.device, self.dtype)

    def _frozen_settings(self) -> dict[str, Any]:
        """DeepSpeed's settings for weights without an optimizer."""
        sharding = {key: value for key, value in self.settings["zero_optimization"].items() if value != "auto"}
        return {
            "train_micro_batch_size_per_gpu": 1,
            "train_batch_size": self.ranks,
            "zero_optimization": sharding,
            "bf16": {"enabled": self.dtype is torch.bfloat16},
        }

    def backward(self, loss: Tensor, last: bool) -> None:
        self.forward.set_gradient_accumulation_boundary(last)
        self.forward.backward(loss * self.ranks)

    def step(self, lr: float) -> Tensor:
        for group in self._zero.param_groups:
            group["lr"] = lr
        self.forward.step()
        norm = float(self.forward.get_global_grad_norm())
        return torch.full((), norm if self.forward.was_step_applied() else math.inf, device=self.device)

    def sum(self, value: Tensor) -> Tensor:
        total: Tensor = self.accelerator.reduce(value.detach().clone(), "sum")
        return total

    def gather(self, items: list[Any]) -> list[Any]:
        return gather(items)

    def weights(self, dtype: torch.dtype = torch.float32) -> Iterator[NamedTensor]:
        if dtype is self.dtype is torch.bfloat16:
            yield from self.gather_placed(self.policy.model)
            return
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
        self._take(module)
        if self.stage < 3:
            return module
        placed: PolicyForward = deepspeed.initialize(model=module, config=self._frozen_settings())[0]
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
                yield name, p.detach().clone() if self.stage == 3 else p.detach()
        yield from persistent_buffers(inner(module))

    def sampler(self) -> Policy:
        """Under ZeRO-3 a full copy: ranks sample different lengths, so weights cannot be gathered during sampling."""
        if self.stage < 3:
            return self.policy
        if self._replica is None:
            model = hollow(self.policy.model, self.device, self.dtype)
            self._replica = Policy(model, self.policy.tokenizer, refresh=self._refresh)
        return self._replica

    def _set(self, p: nn.Parameter, value: Tensor, slot: str | None) -> None:
        if self.stage < 3:
            set_full = safe_set_full_fp32_param if slot is None else safe_set_full_optimizer_state
            set_full(p, value, *([] if slot is None else [slot]))
            return
        part = self._part(p, value)
        if slot is None:
            safe_set_local_fp32_param(p, part)
        else:
            safe_set_local_optimizer_state(p, part, slot)

    def _part(self, p: Any, value: Tensor) -> Tensor:
        """This rank's shard of a whole tensor, flat. Shards are padded to equal sizes, which DeepSpeed's own setter of
        whole tensors does not do."""
        size: int = p.ds_tensor.numel()
        part = torch.zeros(size, dtype=value.dtype)
        own = value.flatten()[size * self.rank : size * (self.rank + 1)]
        part[: own.numel()] = own
        return part.to(self.device)

    def _create_states(self, steps: int) -> None:
        """AdamW creates its averages in its first step; create them now, so that they can be loaded."""
        adam = self._zero.optimizer
        masters = next(getattr(self._zero, name) for name in _MASTERS if hasattr(self._zero, name))
        for flat in masters:
            state = adam.state[flat]
            for slot in ADAM_SLOTS:
                state.setdefault(slot, torch.zeros_like(flat))
            state["step"] = step_count(adam, flat, steps)
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


def step_count(adam: torch.optim.Optimizer, weights: Tensor, steps: int) -> Tensor | int:
    """AdamW's state ``step`` as AdamW would have made it: a tensor, beside the weights where it is fused. DeepSpeed's
    own Adam takes a plain number."""
    if not isinstance(adam, torch.optim.AdamW):
        return steps
    beside = bool(adam.defaults["fused"] or adam.defaults["capturable"])
    return torch.tensor(float(steps), dtype=torch.float32, device=weights.device if beside else "cpu")


def gather_with(head: ChunkedHead) -> None:
    """Have ZeRO-3 gather the output head's weights when :class:`ChunkedHead` is called, which uses them by value.

    As parameters of its own, not as a leaf module: DeepSpeed reduces the gradients of a leaf when the leaf's backward
    pass ends, and drops what tied embeddings add later, unless all gradients of the model fit into one bucket.
    """
    if type(head.head) is nn.Linear:
        for name, parameter in head.head.named_parameters():
            head.register_parameter(name, parameter)
    else:
        set_z3_leaf_modules(head, [ChunkedHead])


def sharding_limits(model: nn.Module) -> dict[str, int]:
    """ZeRO-3's limits in values, such that a rank holds its shards and about one layer of gathered weights besides.
    DeepSpeed's own keep up to 10⁹ gathered values, and copy the gradients of 10⁹ to update them."""
    block = largest_block(model)
    return {
        "stage3_max_live_parameters": 3 * block,
        "stage3_max_reuse_distance": 2 * block,  # recomputed activations: the layer is used again at once
        "stage3_prefetch_bucket_size": min(block, 50_000_000),
        "reduce_bucket_size": min(block, 500_000_000),
        "sub_group_size": SUB_GROUP,
    }


def fill(settings: dict[str, Any], defaults: dict[str, int]) -> None:
    """Add what a launch file leaves open."""
    settings.update({key: value for key, value in defaults.items() if settings.get(key, "auto") == "auto"})


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

"""The learner: one rollout's batch in, updated weights and metrics out."""

from __future__ import annotations

import contextlib
import copy
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from r1rl.config.grpo import GRPOConfig
from r1rl.errors import TrainingError
from r1rl.grpo.balance import partition
from r1rl.grpo.batch import Batch, MicroBatch, Sample, contributes, micro_batch, pack, update_size
from r1rl.grpo.losses import LossInputs, LossSettings, UpdateSize, policy_loss
from r1rl.grpo.schedule import learning_rate
from r1rl.model.forward import PolicyForward
from r1rl.model.load import DTYPES, Policy

Metrics = dict[str, float]


@dataclass(slots=True)
class Progress:
    """What changes from update to update and goes into a checkpoint."""

    updates: int = 0
    skipped: int = 0
    tokens: int = 0


class Learner:
    """Owns the policy's optimizer and the reference policy.

    Args:
        policy: model and tokenizer, float32 weights on the accelerator's device.
        cfg: the dials.
        temperature: the sampling temperature, by which logits are divided.
        max_length: longest completion, tokens (Dr. GRPO's denominator).
        total_updates: length of the learning-rate schedule.
        seed: orders the minibatches.
    """

    def __init__(
        self,
        policy: Policy,
        cfg: GRPOConfig,
        accelerator: Accelerator,
        *,
        dtype: str,
        temperature: float,
        max_length: int,
        total_updates: int,
        seed: int,
    ) -> None:
        self.policy, self.cfg, self.accelerator, self.seed = policy, cfg, accelerator, seed
        self.total_updates = total_updates
        self.progress = Progress()
        self.settings = LossSettings(cfg.loss, cfg.clip_low, cfg.clip_high, cfg.beta, max_length)
        autocast = None if dtype == "float32" else DTYPES[dtype]
        forward = PolicyForward(policy.model, temperature, cfg.logprob_chunk, autocast)
        optimizer = torch.optim.AdamW(
            weight_decay_groups(policy.model, cfg.weight_decay), lr=cfg.lr, betas=cfg.adam_betas, fused=True
        )
        self.reference = self._freeze(forward) if cfg.beta > 0 else None
        self.forward, self.optimizer = accelerator.prepare(forward, optimizer)

    @property
    def updates_per_rollout(self) -> int:
        return self.cfg.minibatches * self.cfg.epochs

    def update(self, batch: Batch) -> Metrics:
        """Learn from one rollout: minibatches × epochs updates.

        With one update a rollout, the old log-probabilities are the new ones, detached, and no pass is spent on
        them; with several, one pass over the rollout records them before the first update.

        Raises:
            TrainingError: a loss or gradient was not finite and ``guards.non_finite`` is stop.
        """
        if self.updates_per_rollout > 1:
            self._record(batch.samples, self.forward, "old_logps")
        if self.reference is not None and self.updates_per_rollout > 1:
            self._record(batch.samples, self.reference, "ref_logps")
        history: dict[str, list[float]] = defaultdict(list)
        for epoch in range(self.cfg.epochs):
            order_seed = self.seed * 1_000_003 + self.progress.updates
            for samples in batch.minibatches(self.cfg.minibatches, order_seed + epoch):
                for name, value in self._step(samples).items():
                    history[name].append(value)
        return {name: float(np.mean(values)) for name, values in history.items()}

    def _step(self, samples: Sequence[Sample]) -> Metrics:
        """One optimizer step on one minibatch."""
        size = update_size(samples)
        forwarded = [s for s in samples if contributes(s, self.cfg.beta)]
        packed = self._pack(forwarded)
        self._set_learning_rate()
        entropy = self.cfg.entropy_every > 0 and self.progress.updates % self.cfg.entropy_every == 0
        sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=self.accelerator.device))
        for i, chunk in enumerate(packed):
            with self._sync_gradients(last=i == len(packed) - 1):
                self._forward_backward(chunk, size, entropy, sums)
        grad_norm = self._apply(sums["loss"])
        self.progress.updates += 1
        self.progress.tokens += sum(len(s) for s in samples)
        self._refresh_reference()
        tokens = max(1, sum(len(s.completion_ids) for s in forwarded))
        totals = {name: float(self._all_reduce(value)) for name, value in sorted(sums.items())}
        metrics = {f"policy/{name}": value / tokens for name, value in totals.items() if name != "loss"}
        return metrics | {
            "policy/loss": totals["loss"],
            "policy/grad_norm": grad_norm,
            "policy/lr": self.optimizer.param_groups[0]["lr"],
            "policy/forwarded_fraction": len(forwarded) / max(1, len(samples)),
            "policy/micro_batches": len(packed),
            "policy/updates_skipped": float(self.progress.skipped),
        }

    def _forward_backward(
        self, samples: Sequence[Sample], size: UpdateSize, entropy: bool, sums: dict[str, Tensor]
    ) -> None:
        chunk = micro_batch(samples, self.accelerator.device)
        logps_C, entropy_C = self.forward(chunk.tokens, entropy=entropy)
        ref_logps_C = chunk.ref_logps_C
        if self.reference is not None and ref_logps_C is None:
            with torch.no_grad():
                ref_logps_C, _ = self.reference(chunk.tokens)
        inputs = self._loss_inputs(chunk, logps_C, ref_logps_C)
        outputs = policy_loss(inputs, self.settings, size)
        # Ranks are averaged by the backend, while the loss is a share of a sum: undo the average.
        self.accelerator.backward(outputs.loss * self.accelerator.num_processes)
        with torch.no_grad():
            sums["loss"] += outputs.loss.detach()
            for name, value in outputs.sums.items():
                sums[name] += value
            if entropy_C is not None:
                sums["entropy"] += entropy_C.sum()
            mismatch_C = inputs.old_logps_C - chunk.engine_logps_C
            sums["engine_mismatch"] += mismatch_C.abs().sum()

    def _loss_inputs(self, chunk: MicroBatch, logps_C: Tensor, ref_logps_C: Tensor | None) -> LossInputs:
        old_logps_C = chunk.old_logps_C if chunk.old_logps_C is not None else logps_C.detach()
        correction_C = None
        if self.cfg.importance_cap > 0:
            correction_C = (old_logps_C - chunk.engine_logps_C).exp().clamp(max=self.cfg.importance_cap)
        return LossInputs(
            logps_C=logps_C,
            old_logps_C=old_logps_C,
            advantages_C=chunk.advantages_C,
            keep_C=chunk.keep_C,
            sequence_C=chunk.sequence_C,
            lengths_S=chunk.lengths_S,
            ref_logps_C=ref_logps_C,
            correction_C=correction_C,
        )

    def _pack(self, samples: Sequence[Sample]) -> list[list[Sample]]:
        """This rank's micro-batches; every rank has as many, the missing ones repeat a short sample at weight 0."""
        ranks = partition([len(s) for s in samples], self.accelerator.num_processes)
        packs = [
            [[samples[part[i]] for i in bin_] for bin_ in pack([len(samples[i]) for i in part], self._budget)]
            for part in ranks
        ]
        most = max(len(p) for p in packs)
        mine = packs[self.accelerator.process_index]
        if len(mine) < most:
            shortest = min(samples, key=len)
            mine = mine + [[_silent(shortest)] for _ in range(most - len(mine))]
        return mine

    @property
    def _budget(self) -> int:
        return self.cfg.tokens_per_microbatch

    def _sync_gradients(self, last: bool) -> Any:
        """Gradients cross ranks once an update, with its last micro-batch."""
        return self.accelerator.no_sync(self.forward) if not last else contextlib.nullcontext()

    def _apply(self, loss: Tensor) -> float:
        """Clip, check, step. Returns the gradient's norm before clipping."""
        if self.optimizer.param_groups[0]["params"][0].grad is None and not self._has_gradients():
            return 0.0
        norm = self.accelerator.clip_grad_norm_(self.forward.parameters(), self.cfg.max_grad_norm)
        value = float(norm)
        finite = math.isfinite(value) and math.isfinite(float(self._all_reduce(loss)))
        if finite:
            self.optimizer.step()
        elif self.cfg.guards.non_finite == "stop":
            raise TrainingError(
                f"update {self.progress.updates + 1}: the loss or its gradient is not finite (gradient norm {value}); "
                "lower grpo.lr, check the rewards, or set grpo.guards.non_finite: skip to leave such updates out"
            )
        else:
            self.progress.skipped += 1
        self.optimizer.zero_grad()
        return value

    def _has_gradients(self) -> bool:
        return any(p.grad is not None for g in self.optimizer.param_groups for p in g["params"])

    @torch.no_grad()
    def _record(self, samples: Sequence[Sample], forward: Callable[..., Any], field: str) -> None:
        """Store log-probabilities of every sample under ``forward`` in its ``field``."""
        for bin_ in pack([len(s) for s in samples], self._budget):
            chunk = [samples[i] for i in bin_]
            logps_C, _ = forward(micro_batch(chunk, self.accelerator.device).tokens)
            lengths = [len(s.completion_ids) for s in chunk]
            for sample, logps in zip(chunk, logps_C.float().cpu().split(lengths), strict=True):
                setattr(sample, field, logps.numpy())

    def _set_learning_rate(self) -> None:
        lr = learning_rate(self.cfg, self.progress.updates, self.total_updates)
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def _refresh_reference(self) -> None:
        every = self.cfg.ref_update_every
        if self.reference is not None and every and self.progress.updates % every == 0:
            self.reference.load_state_dict(self.accelerator.unwrap_model(self.forward).state_dict())

    @staticmethod
    def _freeze(forward: PolicyForward) -> PolicyForward:
        return copy.deepcopy(forward).eval().requires_grad_(False)

    def _all_reduce(self, value: Tensor) -> Tensor:
        return self.accelerator.reduce(value.detach().clone(), "sum")

    def state_dict(self) -> dict[str, Any]:
        """Everything besides the policy's weights that the next update depends on."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "progress": {
                "updates": self.progress.updates,
                "skipped": self.progress.skipped,
                "tokens": self.progress.tokens,
            },
            "reference": None if self.reference is None else self.reference.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**state["progress"])
        if self.reference is not None and state["reference"] is not None:
            self.reference.load_state_dict(state["reference"])


def weight_decay_groups(model: torch.nn.Module, decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases and norms do not."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]


def _silent(sample: Sample) -> Sample:
    return Sample(
        sample.prompt_ids,
        sample.completion_ids,
        0.0,
        sample.engine_logps,
        keep=False,
        old_logps=sample.old_logps,
        ref_logps=sample.ref_logps,
    )

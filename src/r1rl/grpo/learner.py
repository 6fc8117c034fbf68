"""The learner: one rollout's batch in, updated weights and metrics out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from r1rl.config.grpo import GRPOConfig
from r1rl.distributed.interrupt import Interrupt, Interrupted
from r1rl.distributed.shards import read_tensors
from r1rl.errors import ConfigError, TrainingError
from r1rl.grpo.backend import assign, build_backend
from r1rl.grpo.balance import imbalance, partition
from r1rl.grpo.batch import Batch, MicroBatch, Sample, contributes, micro_batch, pack, select_tokens, update_size
from r1rl.grpo.losses import LossInputs, LossSettings, UpdateSize, load_loss, policy_loss
from r1rl.grpo.reference import AdaptersOff, FrozenCopy, ReferencePolicy, frozen
from r1rl.grpo.schedule import learning_rate
from r1rl.model.forward import PackedTokens, PolicyForward
from r1rl.model.load import DTYPES, Policy, dropouts, train_mode, without_dropout
from r1rl.model.lora import adapted
from r1rl.model.state import persistent_buffers
from r1rl.model.ulysses import Team

ADAM, REFERENCE, WEIGHTS = "adam", "reference", "weights"
"""Folders of a checkpoint."""

Metrics = dict[str, float]


class NonFiniteUpdate(TrainingError):
    """An update was left out because its loss or gradient is not finite: the weights are those before it."""


@dataclass(slots=True)
class UpdateCounts:
    """What changes from update to update and goes into a checkpoint."""

    updates: int = 0
    skipped: int = 0
    tokens: int = 0
    done: int = 0
    """Updates made from the current rollout; nonzero only while it is being learned from."""


class Learner:
    """Owns the policy's optimizer and the reference policy.

    Args:
        policy: model and tokenizer, float32 weights on the accelerator's device, or memory-mapped where the backend
            places them (:func:`r1rl.grpo.backend.places_weights`).
        cfg: the settings.
        temperature: the sampling temperature, by which logits are divided.
        max_length: longest completion, tokens (Dr. GRPO's denominator).
        total_updates: length of the learning-rate schedule.
        seed: orders the minibatches.
        resume: weights of a checkpoint, put into the policy after the reference was copied from it and before a
            backend shards it; :meth:`load` then restores the rest.
        fp32_head: compute logits in float32 whatever ``dtype`` is.
        interrupt: checked before every update, on every rank at once.
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
        resume: Path | None = None,
        fp32_head: bool = True,
        interrupt: Interrupt | None = None,
    ) -> None:
        self.policy, self.cfg, self.seed, self.total_updates = policy, cfg, seed, total_updates
        self.interrupt = interrupt or Interrupt()
        self.counts = UpdateCounts()
        self.settings = LossSettings(
            load_loss(cfg.loss), cfg.clip_low, cfg.clip_high, cfg.beta, max_length, cfg.entropy_coef, cfg.covariance
        )
        autocast = None if dtype == "float32" else DTYPES[dtype]
        ranks, rank = accelerator.num_processes, accelerator.process_index
        team = Team.form(cfg.sequence_parallel, rank, ranks, *attention_heads(policy))
        bonus = cfg.entropy_coef > 0
        forward = PolicyForward(policy.model, temperature, cfg.logprob_chunk, autocast, team, fp32_head, bonus)
        start = frozen(forward, policy.mapped) if cfg.beta > 0 and not adapted(policy.model) else None
        train_mode(forward)
        self.dropouts = dropouts(policy.model)
        if resume is not None:
            load_weights(policy, resume)
        optimizer = torch.optim.AdamW(
            weight_decay_groups(policy.model, cfg.weight_decay), lr=cfg.learning_rate, betas=cfg.adam_betas, fused=True
        )
        self.backend = build_backend(policy, forward, optimizer, cfg, accelerator)
        # Ranks of a team get the same samples, so a sum over ranks counts each sample once per member.
        self.teams, self.team = ranks // cfg.sequence_parallel, rank // cfg.sequence_parallel
        self.reference = self._reference(start)

    def _reference(self, start: PolicyForward | None) -> ReferencePolicy | None:
        if self.cfg.beta == 0:
            return None
        if start is not None:
            return FrozenCopy(self.backend.place(start), self.backend)
        if self.cfg.ref_update_every:
            raise ConfigError(
                "grpo.ref_update_every: with model.lora the reference is the model without adapters; use 0"
            )
        return AdaptersOff(self.backend.forward, self.policy.model)

    @property
    def updates_per_rollout(self) -> int:
        return self.cfg.minibatches * self.cfg.epochs

    def update(self, batch: Batch) -> Metrics:
        """Learn from one rollout: minibatches × epochs updates.

        With one update per rollout, the old log-probabilities are the new ones, detached, and no pass is spent on
        them; with several, one pass over the rollout records them before the first update. With dropout in adapters
        that pass is always made, without dropout: π_old is the policy that sampled. The same holds for a loss that
        selects tokens by their log-probabilities.

        Raises:
            NonFiniteUpdate: ``guards.non_finite`` is stop; called again with the same batch, it resumes with that one.
            Interrupted: a stop was requested before one of the updates; called again with the same batch, it resumes
                after the last update made.
        """
        whole = self.counts.done == 0
        if (self.updates_per_rollout > 1 or self.dropouts or self.settings.loss.select) and whole:
            self._record(batch.samples)
        history: dict[str, list[float]] = defaultdict(list)
        for samples in self._minibatches(batch)[self.counts.done :]:
            if self.interrupt.requested_anywhere(self.backend.gather):
                raise Interrupted
            for name, value in self._step(samples).items():
                history[name].append(value)
            self.counts.done += 1
        self.counts.done = 0
        return self._summary(batch, history, whole)

    def _summary(self, batch: Batch, history: dict[str, list[float]], whole: bool) -> Metrics:
        """Means over the updates of a rollout; after a resume, over the updates made since."""
        tokens = {"policy/tokens": float(sum(history.pop("policy/tokens", [])))}
        means = {name: float(np.mean(values)) for name, values in history.items()}
        if whole and "policy/ratio_deviation" in history:
            means["policy/first_ratio_deviation"] = history["policy/ratio_deviation"][0]
        forwarded = sum(contributes(sample, self.cfg.beta, self.cfg.entropy_coef) for sample in batch.samples)
        counts = {
            "policy/updates": float(self.updates_per_rollout),
            "policy/forwarded_fraction": forwarded / max(1, len(batch.samples)),
        }
        return means | tokens | counts

    def _minibatches(self, batch: Batch) -> list[list[Sample]]:
        """Every update's samples, in an order that follows from the seed and the number of updates before."""
        first = self.seed * 1_000_003 + self.counts.updates - self.counts.done
        count = self.cfg.minibatches
        return [part for epoch in range(self.cfg.epochs) for part in batch.minibatches(count, first + epoch * count)]

    def _step(self, samples: Sequence[Sample]) -> Metrics:
        """One optimizer step on one minibatch."""
        size = update_size(samples)
        select_tokens(samples, self.settings, np.random.default_rng([self.seed, self.counts.updates]))
        forwarded = [s for s in samples if contributes(s, self.cfg.beta, self.cfg.entropy_coef)]
        teams = partition([len(s) for s in forwarded], self.teams)
        packed = self._pack(forwarded, teams)
        lr = learning_rate(self.cfg, self.counts.updates, self.total_updates)
        logged = self.cfg.entropy_every > 0 and self.counts.updates % self.cfg.entropy_every == 0
        entropy = logged or self.cfg.entropy_coef > 0
        sums: dict[str, Tensor] = {}
        gaps: list[Tensor] = []
        for i, chunk in enumerate(packed):
            last = i == len(packed) - 1
            loss, counted, gap = self._forward(chunk, size, entropy)
            sums = {name: sums.get(name, 0.0) + value for name, value in counted.items()}
            gaps.append(gap)
            if last:
                loss = self._nan_if_any_rank_failed(loss, sums["loss"])
            self.backend.backward(loss, last)
        totals, worst_gap, norm = self._read(sums, gaps, self.backend.step(lr)) if packed else ({}, 0.0, 0.0)
        self._check(norm)
        self.counts.updates += 1
        self.counts.tokens += sum(len(s) for s in samples)
        self._refresh_reference()
        tokens = max(1, sum(len(s.completion_ids) for s in forwarded))
        metrics = {f"policy/{name}": value / tokens for name, value in totals.items() if name != "loss"}
        return metrics | {
            "policy/loss": totals.get("loss", 0.0),
            "policy/grad_norm": norm,
            "policy/lr": lr,
            "policy/tokens": sum(len(s) for s in forwarded),
            "policy/micro_batches": len(packed),
            "policy/engine_mismatch_max": worst_gap,
            "policy/imbalance": imbalance([len(s) for s in forwarded], teams),
            "policy/updates_skipped": float(self.counts.skipped),
        }

    def _nan_if_any_rank_failed(self, loss: Tensor, summed: Tensor) -> Tensor:
        """``loss``; NaN on every rank if the update's loss is not finite on any, so that no rank steps. Collective."""
        return loss * torch.where(self.backend.sum(summed).isfinite(), 1.0, torch.nan)

    def _read(
        self, sums: dict[str, Tensor], gaps: Sequence[Tensor], norm: Tensor
    ) -> tuple[dict[str, float], float, float]:
        """The update's sums over all ranks, the largest of ``gaps`` on any rank, and the gradient's norm. Collective:
        one reduction, and the only place of an update where the host waits for the device."""
        names = sorted(sums)
        worst = norm.new_zeros(self.backend.ranks)  # a place for each rank, so that a sum carries them all
        worst[self.backend.rank] = torch.stack(list(gaps)).amax()
        reduced = self.backend.sum(torch.cat([torch.stack([sums[name] for name in names]).float(), worst]))
        *values, found = torch.cat([reduced, norm[None]]).cpu().tolist()
        return dict(zip(names, values, strict=False)), max(values[len(names) :]), found

    def _forward(
        self, samples: Sequence[Sample], size: UpdateSize, entropy: bool
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """A micro-batch's share of the loss, what it adds to the update's sums, and the largest difference between
        the engine's log-probabilities and the learner's."""
        chunk = micro_batch(samples, self.backend.device)
        logps_C, entropy_C = self.backend.forward(chunk.tokens, entropy=entropy)
        ref_logps_C = chunk.ref_logps_C
        if self.reference is not None and ref_logps_C is None:
            ref_logps_C = self.reference(chunk.tokens)
        inputs = self._loss_inputs(chunk, logps_C, ref_logps_C, entropy_C)
        outputs = policy_loss(inputs, self.settings, size)
        with torch.no_grad():
            counts = 0.0 if chunk.filler else 1 / self.cfg.sequence_parallel
            counted = {name: counts * value for name, value in (outputs.sums | engine_gap(inputs, chunk)).items()}
            if entropy_C is not None:
                counted["entropy"] = counts * entropy_C.sum()
            counted["loss"] = outputs.loss.detach() / self.cfg.sequence_parallel
            gap = logps_C.new_zeros(()) if chunk.filler else (inputs.old_logps_C - chunk.engine_logps_C).abs().amax()
        return outputs.loss, counted, gap

    def _loss_inputs(
        self, chunk: MicroBatch, logps_C: Tensor, ref_logps_C: Tensor | None, entropy_C: Tensor | None = None
    ) -> LossInputs:
        old_logps_C = chunk.old_logps_C if chunk.old_logps_C is not None else logps_C.detach()
        correction_C = None
        if self.cfg.importance_cap > 0:
            correction_C = (old_logps_C - chunk.engine_logps_C).exp().clamp(max=self.cfg.importance_cap)
        keep_C = chunk.keep_C
        if self.cfg.sequence_mask is not None:
            keep_C = keep_C * near(old_logps_C, chunk, self.cfg.sequence_mask)
        return LossInputs(
            logps_C=logps_C,
            old_logps_C=old_logps_C,
            advantages_C=chunk.advantages_C,
            keep_C=keep_C,
            sequence_C=chunk.sequence_C,
            lengths_S=chunk.lengths_S,
            ref_logps_C=ref_logps_C,
            correction_C=correction_C,
            entropy_C=entropy_C,
            selected_C=chunk.selected_C,
        )

    def _pack(self, samples: Sequence[Sample], teams: Sequence[Sequence[int]]) -> list[list[Sample]]:
        """This team's micro-batches; every team has the same number. Where some are missing, fillers repeat a short
        sample at weight 0."""
        packs = [
            [[samples[part[i]] for i in bin_] for bin_ in self._bins([samples[i] for i in part])] for part in teams
        ]
        most = max(len(p) for p in packs)
        mine = packs[self.team]
        if len(mine) < most:
            shortest = min(samples, key=len)
            mine = mine + [[shortest.as_filler()] for _ in range(most - len(mine))]
        return mine

    def _bins(self, samples: Sequence[Sample]) -> list[list[int]]:
        prompts = [s.prompt_ids.tobytes() for s in samples]
        return pack([len(s) for s in samples], self.cfg.tokens_per_microbatch, prompts)

    def _check(self, norm: float) -> None:
        """Count or refuse an update that the backend left out, because its norm is not finite."""
        if math.isfinite(norm):
            return
        if self.cfg.guards.non_finite == "stop":
            raise NonFiniteUpdate(
                f"update {self.counts.updates + 1}: the loss or its gradient is not finite (gradient norm "
                f"{norm}); lower grpo.learning_rate, check the rewards, or set grpo.guards.non_finite: skip to "
                "leave such updates out"
            )
        self.counts.skipped += 1

    def _record(self, samples: Sequence[Sample]) -> None:
        """Store the old log-probabilities of every sample, and the reference's if there is one."""
        for sample, logps in self._logps(samples, self._policy_logps):
            sample.old_logps = logps
        if self.reference is not None:
            for sample, logps in self._logps(samples, self.reference):
                sample.ref_logps = logps

    @torch.no_grad()
    def _policy_logps(self, tokens: PackedTokens) -> Tensor:
        """[C] float32, no gradient: log-probabilities under the current policy."""
        return self.backend.forward(tokens)[0]

    def _logps(
        self, samples: Sequence[Sample], logps_of: Callable[[PackedTokens], Tensor]
    ) -> Iterator[tuple[Sample, np.ndarray]]:
        """Every sample with its log-probabilities, [C] float32; each team computes its share of them. Collective."""
        chunks = self._pack(samples, partition([len(s) for s in samples], self.teams))
        with without_dropout(self.dropouts):
            parts = [logps_of(micro_batch(chunk, self.backend.device).tokens) for chunk in chunks]
        computed = [sample for chunk in chunks for sample in chunk]
        lengths = [len(s.completion_ids) for s in computed]
        split = torch.cat(parts).float().cpu().split(lengths) if parts else ()  # no sample has a reward
        place = {id(sample): i for i, sample in enumerate(samples)}
        found = [(place[id(s)], logps.numpy()) for s, logps in zip(computed, split, strict=True) if id(s) in place]
        yield from ((samples[i], logps) for i, logps in self.backend.gather(found))

    def _refresh_reference(self) -> None:
        every = self.cfg.ref_update_every
        if self.reference is not None and every and self.counts.updates % every == 0:
            self.reference.replace(self.backend.weights())

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Everything the next update depends on, as ``FOLDER/NAME``: weights, AdamW's averages, the reference if it
        changes. Whole tensors, one at a time, independent of the number of ranks and of the backend. Collective.
        """
        parts = [(WEIGHTS, self.backend.weights()), (ADAM, self.backend.adam())]
        if self.cfg.ref_update_every and isinstance(self.reference, FrozenCopy):
            parts.append((REFERENCE, self.reference.weights()))
        for folder, named in parts:
            yield from ((f"{folder}/{name}", tensor) for name, tensor in named)

    def state_dict(self) -> dict[str, int]:
        """The numbers that belong to these tensors."""
        return asdict(self.counts) | {"adam_steps": self.backend.adam_steps()}

    def load(self, folder: Path, state: dict[str, int]) -> None:
        """Load a checkpoint's :meth:`tensors`; the weights themselves were loaded by ``resume``."""
        numbers = dict(state)
        steps = numbers.pop("adam_steps")
        self.counts = UpdateCounts(**numbers)
        self.backend.load(read_tensors(folder / WEIGHTS), read_tensors(folder / ADAM), steps)
        if self.reference is not None and (folder / REFERENCE).is_dir():
            self.reference.replace(read_tensors(folder / REFERENCE))


@torch.no_grad()
def engine_gap(inputs: LossInputs, chunk: MicroBatch) -> dict[str, Tensor]:
    """Token sums of how far the engine's log-probabilities are from the learner's: |Δ|, the k3 estimate of
    KL(engine ‖ learner) on the engine's own tokens, and the tokens that ``sequence_mask`` left out."""
    log_ratio_C = inputs.old_logps_C - chunk.engine_logps_C
    return {
        "engine_mismatch": log_ratio_C.abs().sum(),
        "engine_kl": (log_ratio_C.exp() - log_ratio_C - 1).sum(),
        "sequence_masked": (chunk.keep_C - inputs.keep_C).sum(),
    }


@torch.no_grad()
def near(old_logps_C: Tensor, chunk: MicroBatch, bound: float) -> Tensor:
    """[C] 1.0 on the tokens of completions whose π_old/π_engine, geometric mean over tokens, is within 1/bound and
    bound, else 0.0."""
    mean_S = old_logps_C.new_zeros(len(chunk.lengths_S))
    mean_S = mean_S.index_add(0, chunk.sequence_C, old_logps_C - chunk.engine_logps_C) / chunk.lengths_S
    return (mean_S.abs() <= math.log(bound)).to(old_logps_C.dtype)[chunk.sequence_C]


@torch.no_grad()
def load_weights(policy: Policy, folder: Path) -> None:
    """Put a checkpoint's weights into a policy that is not sharded yet; into a memory-mapped one, as mapped tensors."""
    if not policy.mapped:
        assign(policy.model, read_tensors(folder / WEIGHTS))
        return
    parameters = dict(policy.model.named_parameters())
    buffers = dict(persistent_buffers(policy.model))
    for name, value in read_tensors(folder / WEIGHTS):
        if name in buffers:
            buffers[name].copy_(value)
        else:
            parameters[name].data = value


def attention_heads(policy: Policy) -> tuple[int, int]:
    """Query and key-value heads of the model."""
    config: Any = policy.model.config.get_text_config()
    return config.num_attention_heads, getattr(config, "num_key_value_heads", None) or config.num_attention_heads


def weight_decay_groups(model: torch.nn.Module, decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases and norms do not."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]

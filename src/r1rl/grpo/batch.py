"""Scored groups → samples with advantages → the minibatches and packed micro-batches of each update."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from r1rl.grpo.advantages import advantages
from r1rl.grpo.losses import LossSettings, UpdateSize
from r1rl.model.device import upload
from r1rl.model.forward import PackedTokens
from r1rl.types import ScoredGroup


@dataclass(slots=True)
class Sample:
    """One completion, prepared for an update. Log-probabilities are [C] float32 arrays, C completion
    tokens."""

    prompt_ids: np.ndarray
    completion_ids: np.ndarray
    advantage: float
    engine_logps: np.ndarray
    keep: bool = True
    """False leaves it out of the loss (a truncated completion, if so configured); it still counts in sizes."""
    filler: bool = False
    """True for a sample that only keeps the ranks' passes in step: it counts in nothing, metrics included."""
    old_logps: np.ndarray | None = None
    ref_logps: np.ndarray | None = None
    selected: np.ndarray | None = None
    """[C] bool, the tokens that the loss selected for the current update."""

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.completion_ids)

    def as_filler(self) -> Sample:
        """A copy that keeps the ranks' passes in step, at weight 0."""
        return replace(self, advantage=0.0, keep=False, filler=True)


@dataclass(slots=True)
class Batch:
    """All samples of one rollout, in a fixed order that every rank agrees on."""

    samples: list[Sample]

    def minibatches(self, count: int, seed: int) -> list[list[Sample]]:
        """Cut a shuffled copy into ``count`` parts whose sizes differ by at most one."""
        order = np.random.default_rng(seed).permutation(len(self.samples)) if count > 1 else range(len(self.samples))
        return [[self.samples[int(i)] for i in part] for part in np.array_split(np.asarray(order), count)]


@dataclass(frozen=True, slots=True)
class Rollout:
    """What one step learns from: scored groups, and the batch made of them."""

    groups: list[ScoredGroup]
    batch: Batch


def make_batch(groups: Sequence[ScoredGroup], scale: str, mask_truncated: bool) -> Batch:
    """Attach advantages to the completions of scored groups.

    Unscored completions are left out entirely: they contribute no gradient, not even the KL term's, and count in no
    denominator. No groups make an empty batch.
    """
    if not groups:
        return Batch([])
    lengths = [np.array([len(completion) for completion in g.group.completions], dtype=np.float64) for g in groups]
    by_group = advantages([g.rewards for g in groups], scale, lengths)
    samples = [
        Sample(
            prompt_ids=np.asarray(g.group.problem.prompt_ids, dtype=np.int64),
            completion_ids=completion.token_ids,
            advantage=float(advantage),
            engine_logps=completion.logps,
            keep=not (mask_truncated and completion.finish == "length"),
        )
        for g, group_advantages in zip(groups, by_group, strict=True)
        for completion, advantage, reward in zip(g.group.completions, group_advantages, g.rewards, strict=True)
        if len(completion) > 0 and not np.isnan(reward)
    ]
    return Batch(samples)


def update_size(samples: Sequence[Sample]) -> UpdateSize:
    """Denominators count every sample of the update, forwarded or not."""
    lengths = [len(s.completion_ids) for s in samples]
    kept = [n for n, s in zip(lengths, samples, strict=True) if s.keep]
    return UpdateSize(sequences=len(samples), tokens=sum(lengths), kept_tokens=sum(kept))


def select_tokens(samples: Sequence[Sample], settings: LossSettings, generator: np.random.Generator) -> None:
    """Let the loss select tokens among all of an update's kept samples, by their old log-probabilities. Every rank has
    all samples, so the selection depends neither on the ranks nor on the micro-batches."""
    kept = [s for s in samples if s.keep]
    if settings.loss.select is None or not kept:
        return
    logps_N = np.concatenate([s.old_logps for s in kept if s.old_logps is not None])
    counts = [len(s.completion_ids) for s in kept]
    chosen_N = settings.loss.select(logps_N, np.repeat([s.advantage for s in kept], counts), settings, generator)
    for sample in samples:
        sample.selected = np.zeros(len(sample.completion_ids), dtype=bool)
    for sample, chosen in zip(kept, np.split(chosen_N, np.cumsum(counts)[:-1]), strict=True):
        sample.selected = chosen


def contributes(sample: Sample, beta: float, entropy_coef: float = 0.0) -> bool:
    """Whether a sample has any gradient: a full mask has none, nor a zero advantage without KL term, entropy bonus or
    selected tokens."""
    selected = sample.selected is not None and bool(sample.selected.any())
    return sample.keep and (beta > 0 or entropy_coef > 0 or selected or sample.advantage != 0.0)


def pack(lengths: Sequence[int], budget: int, alike: Sequence[Hashable] | None = None) -> list[list[int]]:
    """Best-fit decreasing: indices of sequences by micro-batch, each within ``budget`` tokens.

    A sequence longer than the budget gets a micro-batch of its own. Micro-batches come longest sequence first,
    so that a run that will not fit in memory fails on its first one.

    Args:
        alike: a key for each sequence; those of one key are kept together where they fit, because what they have in
            common is computed once per micro-batch. Tokens in common still count for each of them: the budget bounds
            memory, and attention holds them all.
    """
    keys = alike if alike is not None else [None] * len(lengths)
    longest: dict[Hashable, int] = {}
    for key, length in zip(keys, lengths, strict=True):
        longest[key] = max(longest.get(key, 0), length)
    rank = {key: place for place, key in enumerate(sorted(longest, key=longest.__getitem__, reverse=True))}
    bins: list[list[int]] = []
    free: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (rank[keys[i]], -lengths[i], i)):
        fitting = [b for b in range(len(bins)) if free[b] >= lengths[i]]
        if fitting:
            sharing = [b for b in fitting if any(keys[j] == keys[i] for j in bins[b])]
            best = min(sharing or fitting, key=free.__getitem__)  # the fullest that has something in common with it
            bins[best].append(i)
            free[best] -= lengths[i]
        else:
            bins.append([i])
            free.append(budget - lengths[i])
    return sorted(bins, key=lambda bin_: -max(lengths[i] for i in bin_))


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Samples packed into one row, as tensors. C counts completion tokens, S sequences."""

    filler: bool
    """Whether its samples are fillers, which enter no metric."""
    tokens: PackedTokens
    advantages_C: Tensor
    keep_C: Tensor
    sequence_C: Tensor
    lengths_S: Tensor
    engine_logps_C: Tensor
    old_logps_C: Tensor | None
    ref_logps_C: Tensor | None
    selected_C: Tensor | None


def micro_batch(samples: Sequence[Sample], device: torch.device) -> MicroBatch:
    """Pack ``samples`` into one row. The host does not wait for the device, so it packs the next micro-batch while the
    device computes the last one."""
    counts = torch.tensor([len(s.completion_ids) for s in samples])

    def repeat(values: Sequence[float]) -> Tensor:
        return upload(torch.tensor(values, dtype=torch.float32).repeat_interleave(counts), device)

    def join(arrays: Sequence[np.ndarray | None]) -> Tensor | None:
        present = [a for a in arrays if a is not None]
        return upload(torch.from_numpy(np.concatenate(present)), device) if len(present) == len(samples) else None

    engine_logps_C = join([s.engine_logps for s in samples])
    assert engine_logps_C is not None
    return MicroBatch(
        filler=any(s.filler for s in samples),
        tokens=PackedTokens.build(
            [np.concatenate([s.prompt_ids, s.completion_ids]).tolist() for s in samples],
            [len(s.prompt_ids) for s in samples],
            device,
        ),
        advantages_C=repeat([s.advantage for s in samples]),
        keep_C=repeat([float(s.keep) for s in samples]),
        sequence_C=upload(torch.arange(len(samples)).repeat_interleave(counts), device),
        lengths_S=upload(counts.float(), device),
        engine_logps_C=engine_logps_C,
        old_logps_C=join([s.old_logps for s in samples]),
        ref_logps_C=join([s.ref_logps for s in samples]),
        selected_C=join([s.selected for s in samples]),
    )

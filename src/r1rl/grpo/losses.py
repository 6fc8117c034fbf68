"""The policy losses, each one row of a table.

A loss is Σ over tokens of weight × (surrogate + β·KL), divided by a denominator that belongs to the whole update:
all ranks, all micro-batches, the rows that were left out included. However an update is cut, the gradient is one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LossInputs:
    """One packed micro-batch; C completion tokens of S sequences.

    ``advantages_C`` repeats each sequence's advantage over its tokens. ``keep_C`` is 0.0 on the tokens of masked
    completions, else 1.0. ``correction_C`` is the truncated importance weight π_old/π_engine, detached.
    """

    logps_C: Tensor
    old_logps_C: Tensor
    advantages_C: Tensor
    keep_C: Tensor
    sequence_C: Tensor
    lengths_S: Tensor
    ref_logps_C: Tensor | None = None
    correction_C: Tensor | None = None


@dataclass(frozen=True, slots=True)
class LossSettings:
    """The dials a loss reads; see ``GRPOConfig``."""

    loss: str
    clip_low: float
    clip_high: float
    beta: float
    max_length: int


@dataclass(frozen=True, slots=True)
class UpdateSize:
    """What denominators are made of, counted over the whole update on every rank."""

    sequences: int
    tokens: int
    kept_tokens: int


@dataclass(frozen=True, slots=True)
class LossOutputs:
    """``loss`` is this micro-batch's share (sum over micro-batches and ranks = the update's loss); ``sums`` are
    token sums for metrics, to be divided by the update's number of forwarded tokens."""

    loss: Tensor
    sums: dict[str, Tensor]


def _sum_by_sequence(x_C: Tensor, inputs: LossInputs) -> Tensor:
    return x_C.new_zeros(len(inputs.lengths_S)).index_add(0, inputs.sequence_C, x_C)


def token_clip(inputs: LossInputs, s: LossSettings) -> tuple[Tensor, Tensor]:
    """PPO's clipped surrogate a token (DeepSeekMath, arXiv 2402.03300, eq. 3); the second value marks clipped ones."""
    ratio = (inputs.logps_C - inputs.old_logps_C).exp()
    return _clip(ratio, inputs.advantages_C, s)


def sequence_clip(inputs: LossInputs, s: LossSettings) -> tuple[Tensor, Tensor]:
    """GSPO (arXiv 2507.18071, eq. 5–7): the ratio of whole sequences to the power 1/|y|, the same on every token."""
    log_ratio_S = _sum_by_sequence(inputs.logps_C - inputs.old_logps_C, inputs) / inputs.lengths_S
    return _clip(log_ratio_S.exp()[inputs.sequence_C], inputs.advantages_C, s)


def capped_reinforce(inputs: LossInputs, s: LossSettings) -> tuple[Tensor, Tensor]:
    """CISPO (MiniMax-M1, arXiv 2506.13585, eq. 4): −sg(min(ρ, 1 + ε_high))·A·log π. No token loses its gradient."""
    ratio = (inputs.logps_C.detach() - inputs.old_logps_C).exp()
    cap = 1 + s.clip_high
    return -ratio.clamp(max=cap) * inputs.advantages_C * inputs.logps_C, ratio > cap


def _clip(ratio: Tensor, advantages: Tensor, s: LossSettings) -> tuple[Tensor, Tensor]:
    clipped = ratio.clamp(1 - s.clip_low, 1 + s.clip_high)
    loss = -torch.minimum(ratio * advantages, clipped * advantages)
    outside = ((ratio < 1 - s.clip_low) & (advantages < 0)) | ((ratio > 1 + s.clip_high) & (advantages > 0))
    return loss, outside


def per_sequence(inputs: LossInputs) -> Tensor:
    """1/|o_i| on each token of sequence i."""
    return (1.0 / inputs.lengths_S)[inputs.sequence_C]


def per_token(inputs: LossInputs) -> Tensor:
    return torch.ones_like(inputs.keep_C)


@dataclass(frozen=True, slots=True)
class Loss:
    surrogate: Callable[[LossInputs, LossSettings], tuple[Tensor, Tensor]]
    weight: Callable[[LossInputs], Tensor]
    denominator: Callable[[UpdateSize, LossSettings], float]


LOSSES: dict[str, Loss] = {
    "grpo": Loss(token_clip, per_sequence, lambda size, s: size.sequences),
    "bnpo": Loss(token_clip, per_token, lambda size, s: size.kept_tokens),
    "dr_grpo": Loss(token_clip, per_token, lambda size, s: size.sequences * s.max_length),
    "dapo": Loss(token_clip, per_token, lambda size, s: size.tokens),
    "gspo": Loss(sequence_clip, per_sequence, lambda size, s: size.sequences),
    "cispo": Loss(capped_reinforce, per_token, lambda size, s: size.tokens),
}
"""bnpo counts the tokens of kept completions only, dapo and cispo those of all."""


def k3(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """Unbiased, non-negative estimate of KL(π ‖ π_ref) a token: π_ref/π − log(π_ref/π) − 1 (DeepSeekMath, eq. 4)."""
    log_ratio = ref_logps - logps
    return log_ratio.exp() - log_ratio - 1


def policy_loss(inputs: LossInputs, settings: LossSettings, size: UpdateSize) -> LossOutputs:
    """This micro-batch's share of the update's loss, and its metric sums."""
    loss = LOSSES[settings.loss]
    surrogate_C, clipped_C = loss.surrogate(inputs, settings)
    if inputs.correction_C is not None:
        surrogate_C = surrogate_C * inputs.correction_C
    sums = {"clip_fraction": clipped_C.float().sum()}
    if inputs.ref_logps_C is not None:
        kl_C = k3(inputs.logps_C, inputs.ref_logps_C)
        surrogate_C = surrogate_C + settings.beta * kl_C
        sums["kl"] = kl_C.detach().sum()
    weights_C = loss.weight(inputs) * inputs.keep_C
    total = (surrogate_C * weights_C).sum() / max(loss.denominator(size, settings), 1)
    with torch.no_grad():
        log_ratio = inputs.logps_C - inputs.old_logps_C
        sums["approx_kl"] = (log_ratio.exp() - log_ratio - 1).sum()
        sums["ratio_deviation"] = (log_ratio.exp() - 1).abs().sum()
    return LossOutputs(total, sums)

"""The policy losses, each a row of :data:`r1rl.registry.LOSSES`.

A loss is Σ over tokens of weight × (surrogate + β·KL), divided by a denominator that belongs to the whole update:
all ranks, all micro-batches, including the rows that were left out. So the gradient does not depend on how the update
is split.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from r1rl.config.grpo import CovarianceConfig
from r1rl.errors import ConfigError
from r1rl.registry import LOSSES


@dataclass(frozen=True, slots=True)
class LossInputs:
    """One packed micro-batch; C completion tokens of S sequences.

    ``advantages_C`` repeats each sequence's advantage over its tokens. ``keep_C`` is 0.0 on the tokens of masked
    completions, else 1.0. ``correction_C`` is the truncated importance weight π_old/π_engine, detached. ``entropy_C``
    is the policy's entropy at each token, nats, where it was computed. ``selected_C`` marks the tokens that
    :attr:`Loss.select` chose, [C] bool.
    """

    logps_C: Tensor
    old_logps_C: Tensor
    advantages_C: Tensor
    keep_C: Tensor
    sequence_C: Tensor
    lengths_S: Tensor
    ref_logps_C: Tensor | None = None
    correction_C: Tensor | None = None
    entropy_C: Tensor | None = None
    selected_C: Tensor | None = None


@dataclass(frozen=True, slots=True)
class LossSettings:
    """The settings that a loss reads; see ``GRPOConfig``."""

    loss: Loss
    clip_low: float
    clip_high: float
    beta: float
    max_length: int
    entropy_coef: float = 0.0
    covariance: CovarianceConfig = field(default_factory=CovarianceConfig)


@dataclass(frozen=True, slots=True)
class UpdateSize:
    """The counts that denominators are made of, over the whole update on every rank."""

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
    """PPO's clipped surrogate per token (DeepSeekMath, arXiv 2402.03300, eq. 3), and which tokens were clipped."""
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


def covariance_clip(inputs: LossInputs, s: LossSettings) -> tuple[Tensor, Tensor]:
    """Clip-Cov (arXiv 2505.22617, section 4.2): :func:`token_clip` without the selected tokens' gradient."""
    loss_C, clipped_C = token_clip(inputs, s)
    selected_C = _selected(inputs)
    return torch.where(selected_C, loss_C.detach(), loss_C), clipped_C | selected_C


def covariance_kl(inputs: LossInputs, s: LossSettings) -> tuple[Tensor, Tensor]:
    """KL-Cov (arXiv 2505.22617, section 4.2): −ρ·A without clipping, and on the selected tokens a penalty on leaving
    π_old, ``covariance.kl_coef`` × |log π − log π_old|, as in the paper's listing."""
    log_ratio_C = inputs.logps_C - inputs.old_logps_C
    selected_C = _selected(inputs)
    penalty_C = s.covariance.kl_coef * log_ratio_C.abs() * selected_C
    return penalty_C - log_ratio_C.exp() * inputs.advantages_C, torch.zeros_like(selected_C)


def _selected(inputs: LossInputs) -> Tensor:
    return torch.zeros_like(inputs.keep_C, dtype=torch.bool) if inputs.selected_C is None else inputs.selected_C


def covariances(logps_N: np.ndarray, advantages_N: np.ndarray) -> np.ndarray:
    """Each token's part of the covariance of log-probability and advantage, [N] (arXiv 2505.22617, section 4.1)."""
    products_N: np.ndarray = (logps_N - logps_N.mean()) * (advantages_N - advantages_N.mean())
    return products_N


def select_between(
    logps_N: np.ndarray, advantages_N: np.ndarray, s: LossSettings, generator: np.random.Generator
) -> np.ndarray:
    """Clip-Cov: a random share of the tokens, out of those whose covariance is between two bounds; [N] bool."""
    found_N = covariances(logps_N, advantages_N)
    [inside] = np.nonzero((found_N > s.covariance.low) & (found_N < s.covariance.high))
    chosen_N = np.zeros(len(found_N), dtype=bool)
    chosen_N[generator.permutation(inside)[: _share(s, len(found_N))]] = True
    return chosen_N


def select_largest(
    logps_N: np.ndarray, advantages_N: np.ndarray, s: LossSettings, generator: np.random.Generator
) -> np.ndarray:
    """KL-Cov: the share of the tokens with the largest covariance; [N] bool."""
    found_N = covariances(logps_N, advantages_N)
    chosen_N = np.zeros(len(found_N), dtype=bool)
    chosen_N[np.argsort(-found_N, kind="stable")[: _share(s, len(found_N))]] = True
    return chosen_N


def _share(s: LossSettings, tokens: int) -> int:
    return max(1, int(s.covariance.fraction * tokens))


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


def sequences(size: UpdateSize, s: LossSettings) -> float:
    return size.sequences


def tokens(size: UpdateSize, s: LossSettings) -> float:
    return size.tokens


def kept_tokens(size: UpdateSize, s: LossSettings) -> float:
    return size.kept_tokens


def longest_sequences(size: UpdateSize, s: LossSettings) -> float:
    """Tokens if every completion had the maximum length (Dr. GRPO)."""
    return size.sequences * s.max_length


@dataclass(frozen=True, slots=True)
class Loss:
    """One policy loss; the table is :data:`r1rl.registry.LOSSES`, your own is ``module:name``.

    ``surrogate`` gives the loss per token, [C], and which tokens were clipped, [C] bool, for a metric. ``weight`` is
    the weight of each token, [C], and ``denominator`` what the sum over the whole update is divided by. ``select`` gets
    the old log-probabilities and the advantages of all N tokens of the update's kept completions, on every rank the
    same, and returns which of them are :attr:`LossInputs.selected_C`, [N] bool. It needs a pass over the rollout before
    the first update.
    """

    surrogate: Callable[[LossInputs, LossSettings], tuple[Tensor, Tensor]]
    weight: Callable[[LossInputs], Tensor] = per_token
    denominator: Callable[[UpdateSize, LossSettings], float] = tokens
    select: Callable[[np.ndarray, np.ndarray, LossSettings, np.random.Generator], np.ndarray] | None = None


GRPO = Loss(token_clip, per_sequence, sequences)
BNPO = Loss(token_clip, per_token, kept_tokens)
"""Counts the tokens of kept completions only, dapo and cispo those of all."""
DR_GRPO = Loss(token_clip, per_token, longest_sequences)
DAPO = Loss(token_clip, per_token, tokens)
GSPO = Loss(sequence_clip, per_sequence, sequences)
CISPO = Loss(capped_reinforce, per_token, tokens)
CLIP_COV = Loss(covariance_clip, per_token, tokens, select_between)
KL_COV = Loss(covariance_kl, per_token, tokens, select_largest)


def load_loss(name: str) -> Loss:
    """The loss that ``grpo.loss`` names. Raises ConfigError where there is none, or it is not a :class:`Loss`."""
    found = LOSSES.load(name)
    if not isinstance(found, Loss):
        raise ConfigError(
            f"grpo.loss: {name} is {type(found).__name__}, not an r1rl.grpo.losses.Loss; wrap a function of "
            "(LossInputs, LossSettings) as Loss(function)"
        )
    return found


def k3(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """Unbiased, non-negative estimate of KL(π ‖ π_ref) per token: π_ref/π − log(π_ref/π) − 1 (DeepSeekMath, eq. 4)."""
    log_ratio = ref_logps - logps
    return log_ratio.exp() - log_ratio - 1


def policy_loss(inputs: LossInputs, settings: LossSettings, size: UpdateSize) -> LossOutputs:
    """This micro-batch's share of the update's loss, and its metric sums."""
    loss = settings.loss
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
    if settings.entropy_coef and inputs.entropy_C is not None:
        # The mean over the update's tokens, whatever the loss divides by, so that the coefficient means the same for
        # every loss.
        total = total - settings.entropy_coef * (inputs.entropy_C * inputs.keep_C).sum() / max(size.kept_tokens, 1)
    with torch.no_grad():
        log_ratio = inputs.logps_C - inputs.old_logps_C
        sums["approx_kl"] = (log_ratio.exp() - log_ratio - 1).sum()
        sums["ratio_deviation"] = (log_ratio.exp() - 1).abs().sum()
    return LossOutputs(total, sums)

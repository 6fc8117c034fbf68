"""Rewards of the groups of a step → advantages of their completions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from r1rl.errors import ConfigError
from r1rl.registry import SCALES

EPS = 1e-4
"""Added to the standard deviation, as TRL does, so that two equal rewards give 0 and not noise."""

Groups: TypeAlias = Sequence[np.ndarray]
"""One [S] float64 array per group, S scored completions; groups may differ in size, and may be empty."""
Scale: TypeAlias = Callable[[Groups, Groups], Groups]
"""``(rewards, lengths) -> advantages`` of all groups of the step, in the same shapes; ``lengths`` are the tokens of the
completions. The table is :data:`r1rl.registry.SCALES`."""


def group_std(rewards: Groups, lengths: Groups) -> Groups:
    """Minus the group's mean, over its sample standard deviation (DeepSeekMath, arXiv 2402.03300, section 4.1.2)."""
    return [_centred(r) / (_std(r) + EPS) for r in rewards]


def batch_std(rewards: Groups, lengths: Groups) -> Groups:
    """Minus the group's mean, over the sample standard deviation of all rewards of the step (arXiv 2508.08221)."""
    std = _std(np.concatenate(rewards))
    return [_centred(r) / (std + EPS) for r in rewards]


def no_std(rewards: Groups, lengths: Groups) -> Groups:
    """Minus the group's mean (Dr. GRPO, arXiv 2503.20783)."""
    return [_centred(r) for r in rewards]


def leave_one_out(rewards: Groups, lengths: Groups) -> Groups:
    """RLOO (arXiv 2402.14740, section 4.2): minus the mean of the group's other completions."""
    return [_centred(r) * len(r) / max(len(r) - 1, 1) for r in rewards]


def reinforce_pp(rewards: Groups, lengths: Groups) -> Groups:
    """REINFORCE++ (arXiv 2501.03262, eq. 8 and 10 at β = 0): normalised over all tokens of the step, each of which has
    its completion's reward. A group of equal rewards has an advantage too."""
    return _normalised(rewards, lengths)


def reinforce_pp_baseline(rewards: Groups, lengths: Groups) -> Groups:
    """REINFORCE++ with baseline (arXiv 2501.03262, section 3): minus the group's mean, then as :func:`reinforce_pp`."""
    return _normalised([_centred(r) for r in rewards], lengths)


def max_likelihood(rewards: Groups, lengths: Groups) -> Groups:
    """MaxRL (arXiv 2602.02710): minus the group's mean, over that mean; 0 where no completion is right.

    With rewards of 0 and 1 it is the average of ∇log π over the right completions, less that over all. The paper's
    derivation assumes rewards of 0 for wrong completions and more for right ones; groups whose mean is not positive
    have 0.
    """
    return [_centred(r) / r.mean() if len(r) and r.mean() > 0 else np.zeros_like(r) for r in rewards]


def advantages(rewards: Groups, scale: str, lengths: Groups | None = None) -> list[np.ndarray]:
    """Advantages of a step's completions. Unscored completions count in no mean and no standard deviation, as in TRL.

    Args:
        rewards: one [G] float64 array per group, NaN where a completion is unscored (groups may differ in size).
        scale: a name of :data:`r1rl.registry.SCALES`, or ``module:name``.
        lengths: tokens of the completions, in the same shapes; None counts every completion alike.

    Returns:
        One [G] float64 array per group, 0 for every unscored completion.

    Raises:
        ConfigError: the scale cannot be found, or returns something other than finite numbers in the rewards' shapes.
    """
    if not rewards:
        return []
    compute: Scale = SCALES.load(scale)
    scored = [~np.isnan(r) for r in rewards]
    tokens = [np.ones_like(r) for r in rewards] if lengths is None else lengths
    found = compute(_pick(rewards, scored), _pick(tokens, scored))
    _check(scale, found, scored)
    result = [np.zeros_like(r) for r in rewards]
    for whole, mask, values in zip(result, scored, found, strict=True):
        whole[mask] = values
    return result


def _pick(groups: Groups, masks: Groups) -> list[np.ndarray]:
    return [values[mask] for values, mask in zip(groups, masks, strict=True)]


def _check(scale: str, found: Groups, scored: Groups) -> None:
    shapes, expected = [np.shape(values) for values in found], [(int(mask.sum()),) for mask in scored]
    if shapes != expected:
        raise ConfigError(f"grpo.scale_rewards {scale}: returned shapes {shapes} for groups of {expected} rewards")
    if not all(np.isfinite(values).all() for values in found):
        raise ConfigError(f"grpo.scale_rewards {scale}: returned advantages that are not finite")


def _centred(rewards: np.ndarray) -> np.ndarray:
    """Minus their mean; exactly 0 where all are equal, or there is only one."""
    return rewards - rewards.mean() if len(rewards) > 1 and np.ptp(rewards) > 0 else np.zeros_like(rewards)


def _normalised(advantages: Groups, lengths: Groups) -> Groups:
    """Mean 0 and standard deviation 1 over all tokens of the step; exactly 0 where all are equal."""
    a, tokens = np.concatenate(advantages), np.concatenate(lengths)
    if not tokens.sum() or np.ptp(a[tokens > 0]) == 0:
        return [np.zeros_like(each) for each in advantages]
    mean = np.average(a, weights=tokens)
    std = np.sqrt(np.average((a - mean) ** 2, weights=tokens))
    return [(each - mean) / (std + EPS) for each in advantages]


def _std(rewards: np.ndarray) -> float:
    return float(rewards.std(ddof=1)) if len(rewards) > 1 else 0.0

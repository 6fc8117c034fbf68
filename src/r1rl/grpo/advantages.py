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


def _std(rewards: np.ndarray) -> float:
    return float(rewards.std(ddof=1)) if len(rewards) > 1 else 0.0

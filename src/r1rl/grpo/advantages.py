"""Rewards of a group → advantages of its completions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

EPS = 1e-4
"""Added to the standard deviation, as TRL does, so that two equal rewards give 0 and not noise."""


def _group(rewards: np.ndarray, batch_std: float) -> np.ndarray:
    return (rewards - rewards.mean()) / (rewards.std(ddof=1) + EPS)


def _batch(rewards: np.ndarray, batch_std: float) -> np.ndarray:
    return (rewards - rewards.mean()) / (batch_std + EPS)


def _none(rewards: np.ndarray, batch_std: float) -> np.ndarray:
    return rewards - rewards.mean()


SCALES: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {"group": _group, "batch": _batch, "none": _none}
"""What advantages are divided by: the group's sample standard deviation (DeepSeekMath, arXiv 2402.03300, section
4.1.2), that of all rewards of the step (REINFORCE++, 2501.03262), or nothing (Dr. GRPO, 2503.20783)."""


def advantages(rewards: Sequence[np.ndarray], scale: str) -> list[np.ndarray]:
    """Group-relative advantages. Unscored completions count in no mean and no standard deviation, as in TRL.

    Args:
        rewards: one [G] float64 array per group, NaN where a completion is unscored (groups may differ in size).
        scale: a key of :data:`SCALES`.

    Returns:
        One [G] float64 array per group; each sums to 0. A group of equal rewards, or with fewer than two scored
        completions, gives exactly 0, and so does every unscored completion.
    """
    everything = np.concatenate([_scored(r) for r in rewards]) if rewards else np.zeros(0)
    batch_std = float(everything.std(ddof=1)) if len(everything) > 1 else 0.0
    return [_of_group(r, scale, batch_std) for r in rewards]


def _of_group(rewards: np.ndarray, scale: str, batch_std: float) -> np.ndarray:
    result, scored = np.zeros_like(rewards), _scored(rewards)
    if len(scored) > 1 and np.ptp(scored) > 0:
        result[~np.isnan(rewards)] = SCALES[scale](scored, batch_std)
    return result


def _scored(rewards: np.ndarray) -> np.ndarray:
    return rewards[~np.isnan(rewards)]

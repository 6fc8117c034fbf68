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
    """Group-relative advantages.

    Args:
        rewards: one [G] float64 array a group, G at least 2 (groups may differ in size).
        scale: a key of :data:`SCALES`.

    Returns:
        One [G] float64 array a group; each sums to 0, and a group of equal rewards gives exactly 0.
    """
    batch_std = float(np.concatenate(rewards).std(ddof=1)) if rewards else 0.0
    return [np.zeros_like(r) if np.ptp(r) == 0 else SCALES[scale](r, batch_std) for r in rewards]

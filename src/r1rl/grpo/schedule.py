"""The learning rate as a pure function of the update's number."""

from __future__ import annotations

import math
from collections.abc import Callable

from r1rl.config.grpo import GRPOConfig


def constant(progress: float) -> float:
    del progress
    return 1.0


def linear(progress: float) -> float:
    return 1.0 - progress


def cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


SCHEDULES: dict[str, Callable[[float], float]] = {"constant": constant, "linear": linear, "cosine": cosine}
"""Share of the peak at a given progress through the decay, 0 to 1."""


def learning_rate(cfg: GRPOConfig, update: int, total: int) -> float:
    """Rate of the update with this number (from 0): linear warm-up, then the schedule down to its lr_min_ratio."""
    if update < cfg.warmup_updates:
        return cfg.learning_rate * (update + 1) / cfg.warmup_updates
    progress = (update - cfg.warmup_updates) / max(1, total - cfg.warmup_updates)
    share = SCHEDULES[cfg.lr_scheduler_type](min(1.0, progress))
    return cfg.learning_rate * (cfg.lr_min_ratio + (1 - cfg.lr_min_ratio) * share)

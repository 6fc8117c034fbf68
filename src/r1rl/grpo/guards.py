"""Bounds whose crossing means that a run has gone wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from r1rl.config.grpo import GuardConfig
from r1rl.errors import TrainingError

# metric, the config's bound, which side is bad, what it usually means
GUARDS: list[tuple[str, str, Callable[[float, float], bool], str]] = [
    (
        "policy/kl",
        "max_kl",
        lambda x, bound: x > bound,
        "the policy has left its reference: lower grpo.lr or raise grpo.beta",
    ),
    (
        "policy/entropy",
        "min_entropy",
        lambda x, bound: x < bound,
        "the policy has collapsed: lower grpo.lr, raise grpo.clip_high, or look for a reward that is being hacked",
    ),
    (
        "rollout/length_mean",
        "min_length",
        lambda x, bound: x < bound,
        "completions have shrunk: look for a reward that is paid without an answer",
    ),
]


def check(cfg: GuardConfig, step: int, metrics: Mapping[str, float], warn: Callable[[str], None]) -> int:
    """Number of bounds crossed in this step.

    Raises:
        TrainingError: one was crossed and ``guards.action`` is stop.
    """
    crossed = 0
    for metric, bound_name, bad, meaning in GUARDS:
        bound = getattr(cfg, bound_name)
        if bound is None or metric not in metrics or not bad(metrics[metric], bound):
            continue
        crossed += 1
        message = f"step {step}: {metric} is {metrics[metric]:.4g}, past grpo.guards.{bound_name} {bound:g}; {meaning}"
        if cfg.action == "stop":
            raise TrainingError(message)
        warn(message)
    return crossed

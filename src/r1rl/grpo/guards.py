"""Bounds whose crossing means that a run has gone wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import gt, lt

from r1rl.config.grpo import GuardConfig

# metric, the config's bound, which side is bad, what it usually means
GUARDS: list[tuple[str, str, Callable[[float, float], bool], str]] = [
    (
        "policy/kl",
        "max_kl",
        gt,
        "the policy has left its reference: lower grpo.learning_rate or raise grpo.beta",
    ),
    (
        "policy/entropy",
        "min_entropy",
        lt,
        "the policy has collapsed: lower grpo.learning_rate, raise grpo.clip_high, or look for a reward that is "
        "being hacked",
    ),
    (
        "rollout/length_mean",
        "min_length",
        lt,
        "completions have shrunk: look for a reward that is paid without an answer",
    ),
]


def crossings(cfg: GuardConfig, step: int, metrics: Mapping[str, float]) -> list[str]:
    """One sentence per bound that this step crossed, whatever ``guards.action`` is."""
    crossed: list[str] = []
    for metric, bound_name, bad, meaning in GUARDS:
        bound = getattr(cfg, bound_name)
        if bound is None or metric not in metrics or not bad(metrics[metric], bound):
            continue
        value = f"{metric} is {metrics[metric]:.4g}"
        crossed.append(f"step {step}: {value}, past grpo.guards.{bound_name} {bound:g}; {meaning}")
    return crossed

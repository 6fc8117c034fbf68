"""Numbers about a step's groups, before anything is learned from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from r1rl.types import ScoredGroup


def rollout_metrics(groups: Sequence[ScoredGroup]) -> dict[str, float]:
    """Rewards, lengths and how much the groups can teach. Unscored completions count in no figure of rewards."""
    rewards = np.concatenate([g.scored for g in groups])
    completions = [c for g in groups for c in g.group.completions]
    lengths = np.array([len(c) for c in completions])
    flat = [float(len(g.scored) < 2 or np.ptp(g.scored) == 0) for g in groups]
    metrics = {"reward/mean": float(rewards.mean()), "reward/std": float(rewards.std())} if len(rewards) else {}
    metrics |= {
        "reward/unscored": 1 - len(rewards) / len(completions),
        "rollout/length_mean": float(lengths.mean()),
        "rollout/length_max": float(lengths.max()),
        "rollout/truncated": float(np.mean([c.finish == "length" for c in completions])),
        "rollout/zero_variance_groups": float(np.mean(flat)),
        "rollout/completions": float(len(completions)),
        "rollout/tokens": float(lengths.sum()),
        "rollout/prompt_tokens": float(sum(len(g.problem.prompt_ids) * len(g) for g in (s.group for s in groups))),
    }
    for name in dict.fromkeys(name for g in groups for name in g.by_reward):
        values = np.concatenate([g.by_reward[name] for g in groups if name in g.by_reward])
        if not np.isnan(values).all():
            metrics[f"reward/{name}/mean"] = float(np.nanmean(values))
    return metrics


def sample_rows(groups: Sequence[ScoredGroup], count: int) -> list[dict[str, Any]]:
    """The first completion of the first ``count`` groups, with each reward."""
    return [
        {
            "problem": g.group.problem.id,
            "prompt": g.group.problem.prompt,
            "completion": g.group.problem.prefill + g.group.completions[0].text,
            "answer": g.group.problem.columns.get("answer"),
            "reward": _number(g.rewards[0]),
            "length": len(g.group.completions[0]),
            "finish": g.group.completions[0].finish,
            **{f"reward_{name}": _number(values[0]) for name, values in g.by_reward.items()},
        }
        for g in groups[:count]
    ]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)

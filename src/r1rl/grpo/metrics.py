"""Numbers about a step's groups, before anything is learned from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from r1rl.records import Row, logged_row
from r1rl.scoring.metrics import reward_metrics
from r1rl.types import ScoredGroup


def rollout_metrics(groups: Sequence[ScoredGroup]) -> dict[str, float]:
    """Rewards, lengths and the share of groups without a learning signal. Unscored completions count in no reward
    figure."""
    completions = [c for g in groups for c in g.group.completions]
    lengths = np.array([len(c) for c in completions])
    flat = [float(len(g.scored) < 2 or np.ptp(g.scored) == 0) for g in groups]
    return reward_metrics(groups) | {
        "rollout/length_mean": float(lengths.mean()),
        "rollout/length_max": float(lengths.max()),
        "rollout/truncated": float(np.mean([c.finish == "length" for c in completions])),
        "rollout/zero_variance_groups": float(np.mean(flat)),
        "rollout/completions": float(len(completions)),
        "rollout/tokens": float(lengths.sum()),
        "rollout/prompt_tokens": float(sum(len(g.problem.prompt_ids) * len(g) for g in (s.group for s in groups))),
    }


_OVER_RANKS: dict[str, Callable[[Iterable[float]], float]] = {
    "rollout/resubmitted": sum,
    "rollout/duplicates_dropped": sum,
    "rollout/servers": min,
}
"""How the figures of the ranks are combined, where not by their maximum. Times are those of the slowest rank; every
rank sees the same servers fail, but each requests its own groups."""


def over_ranks(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Combines the figures that every rank measured for itself."""
    names = dict.fromkeys(name for each in figures for name in each)
    return {name: _OVER_RANKS.get(name, max)(each[name] for each in figures if name in each) for name in names}


def sample_rows(groups: Sequence[ScoredGroup], count: int) -> list[Row]:
    """The first completion of the first ``count`` groups, for samples.jsonl and the trackers' tables."""
    return [logged_row(g, 0) for g in groups[:count]]

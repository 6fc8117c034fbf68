"""Numbers and rows about a step's groups."""

from __future__ import annotations

import math

import numpy as np
import pytest

from r1rl.grpo.metrics import over_ranks, rollout_metrics, sample_rows
from r1rl.types import Completion, Group, Problem, ScoredGroup


def scored(rewards: list[float], **by_reward: list[float]) -> ScoredGroup:
    completions = [Completion(np.arange(3), np.zeros(3, np.float32), "text", "stop") for _ in rewards]
    values = {name: np.array(each) for name, each in by_reward.items()}
    return ScoredGroup(Group(Problem("p", (1, 2), "q"), completions), np.array(rewards), values)


def test_unscored_completions_count_in_no_figure_of_rewards() -> None:
    nan = math.nan
    groups = [scored([1.0, nan, 1.0, 1.0]), scored([0.0, 1.0, nan, nan])]
    metrics = rollout_metrics(groups)
    assert metrics["reward/mean"] == pytest.approx(4 / 5)
    assert metrics["reward/std"] == pytest.approx(0.4)
    assert metrics["reward/unscored"] == pytest.approx(3 / 8)
    assert metrics["rollout/zero_variance_groups"] == 0.5
    assert metrics["rollout/completions"] == 8


def test_a_step_without_any_reward_has_no_figure_that_is_not_finite() -> None:
    groups = [scored([math.nan] * 2, judge=[math.nan] * 2)]
    metrics = rollout_metrics(groups)
    assert metrics["reward/unscored"] == 1.0
    assert "reward/mean" not in metrics
    assert all(math.isfinite(value) for value in metrics.values())
    assert sample_rows(groups, 1)[0]["reward"] is None


def test_figures_of_ranks_are_joined_by_what_they_count() -> None:
    first = {"time/step": 1.0, "rollout/servers": 3.0, "rollout/resubmitted": 2.0, "rollout/server_failures": 1.0}
    second = {"time/step": 4.0, "rollout/servers": 2.0, "rollout/resubmitted": 1.0, "rollout/server_failures": 1.0}
    joined = {"time/step": 4.0, "rollout/servers": 2.0, "rollout/resubmitted": 3.0, "rollout/server_failures": 1.0}
    assert over_ranks([first, second]) == joined

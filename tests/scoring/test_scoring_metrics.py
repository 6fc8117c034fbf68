"""What several processes measured is joined before it is summarised."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from r1rl.scoring.metrics import Measured, ScoringMetrics, call_metrics, reward_metrics
from r1rl.types import Completion, Group, Problem, ScoredGroup


def test_counts_are_summed_and_times_pooled() -> None:
    first = Measured({"a": [0.001, 0.002]}, {"a": Counter(timeouts=1)}, {"x": [1.0, 2.0]}, Counter(correct=2))
    second = Measured({"a": [0.1], "b": [0.5]}, {"a": Counter(timeouts=2)}, {"x": [6.0]}, Counter(correct=1, wrong=4))
    metrics = call_metrics([first, second])
    assert metrics["reward/a/timeouts"] == 3
    assert metrics["reward/a/p50_ms"] == pytest.approx(2.0)
    assert metrics["reward/b/p50_ms"] == pytest.approx(500.0)
    assert metrics["x"] == pytest.approx(3.0)
    assert (metrics["verify/correct"], metrics["verify/wrong"]) == (3, 4)


def test_draining_starts_anew() -> None:
    metrics = ScoringMetrics()
    metrics.add_call("a", 0.5, {"errors": 1}, completions=4, lost=1)
    metrics.log("x", math.inf)
    assert math.isnan(call_metrics([metrics.drain()])["x"])
    assert call_metrics([metrics.drain()]) == {}


def test_rewards_are_those_of_the_groups_given() -> None:
    completions = [Completion(np.arange(2), np.zeros(2, np.float32), "", "stop")] * 2
    group = Group(Problem("p", (1,), ""), completions)
    both = ScoredGroup(group, np.array([1.0, 0.0]), {"a": np.array([1.0, 0.0]), "b": np.array([math.nan, 4.0])})
    other = ScoredGroup(group, np.array([math.nan, 1.0]), {"a": np.array([math.nan, 1.0])})
    metrics = reward_metrics([both, other])
    assert metrics["reward/mean"] == pytest.approx(2 / 3)
    assert metrics["reward/unscored"] == 0.25
    assert metrics["reward/a/mean"] == pytest.approx(2 / 3)
    assert metrics["reward/a/none"] == 0.25
    assert (metrics["reward/b/mean"], metrics["reward/b/std"], metrics["reward/b/none"]) == (4.0, 0.0, 0.5)

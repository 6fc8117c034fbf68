"""What a run of two processes logs is of both, and of what was trained on."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import pytest

from tests.support.waits import HANG_S

pytestmark = pytest.mark.integration

REWARDS = """
import os

def ranked(prompts, completions, log_metric, **kwargs):
    rank = int(os.environ["RANK"])
    log_metric("seen/rank", rank)
    if sum(map(ord, prompts[0])) % 2:
        return [100.0] * len(completions)  # replaced by dynamic sampling
    return [rank + 2.0 * (i % 2) for i in range(len(completions))]
"""
PROMPTS = 6


@pytest.mark.timeout(2 * HANG_S)
def test_metrics_are_of_all_ranks_and_of_the_groups_trained_on(on_two_processes, tmp_path: Path) -> None:
    (tmp_path / "rewards.py").write_text(REWARDS)
    config = {
        "data": {
            "train": {"sums": {"path": "generated:arithmetic", "args": {"split": "train", "size": 60}}},
            "prompt": {"system": ""},
        },
        "rewards": {"ranked": {"function": f"{tmp_path / 'rewards.py'}:ranked"}},
        "rollout": {
            "prompts_per_step": PROMPTS,
            "group_size": 2,
            "max_new_tokens": 4,
            "dynamic_sampling": {"max_rounds": 8},
        },
        "grpo": {"algorithm": "dapo", "steps": 2, "checkpoint_every": 0},
        "tracking": {"console": False, "samples_per_step": PROMPTS},
    }
    on_two_processes(config)
    stage = tmp_path / "run" / "grpo"
    firsts: dict[int, list[float]] = defaultdict(list)
    for line in (stage / "samples.jsonl").read_text().splitlines():
        row = json.loads(line)
        firsts[row["step"]].append(row["reward"])  # of a group's first completion: the rank that scored it
    everything = []
    for line in (stage / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        ranks = firsts[row["step"]]
        assert set(ranks) == {0.0, 1.0}
        assert row["reward/ranked/mean"] == pytest.approx(fmean(ranks) + 1)
        assert row["reward/ranked/mean"] == pytest.approx(row["reward/mean"])
        assert row["reward/ranked/none"] == 0.0
        assert 0 < row["seen/rank"] < 1, "a value that reward functions log is the mean over both"
        everything.append(row["rollout/dynamic_reward/ranked"])
    assert max(everything) > 10, "what was replaced has a name of its own"

"""Two processes measure half of the problems each, and find what one finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator

from r1rl import GRPOTrainer, load_config, stage_config
from r1rl.tracking.console import Console
from tests.support.waits import HANG_S

pytestmark = pytest.mark.integration

REWARD = """
import os

def digit(prompts, completions, **kwargs):
    with open(__file__ + os.environ.get("RANK", "one"), "a") as seen:
        seen.write(prompts[0].replace("\\n", " ") + "\\n")
    return [float(any(ch.isdigit() for ch in c)) for c in completions]
"""
SIZE = 21


@pytest.mark.timeout(2 * HANG_S)
def test_the_measuring_is_shared(on_two_processes, tmp_path: Path) -> None:
    (tmp_path / "rewards.py").write_text(REWARD)
    config = {
        "data": {
            "train": {"sums": {"path": "generated:arithmetic", "args": {"split": "train", "size": SIZE}}},
            "prompt": {"system": ""},
            "difficulty": {"samples": 3},
        },
        "rewards": {"digit": {"function": f"{tmp_path / 'rewards.py'}:digit"}},
        "evaluate": {"reward": "digit"},
        "rollout": {"prompts_per_step": 2, "group_size": 2, "max_new_tokens": 3},
        "grpo": {"steps": 1, "checkpoint_every": 0},
        "tracking": {"console": False},
    }
    on_two_processes(config)
    seen = [(tmp_path / f"rewards.py{rank}").read_text().splitlines() for rank in (0, 1)]
    assert [len(each) for each in seen] == [SIZE // 2 + 1 + 1, SIZE // 2 + 1], "its half, and a problem to train on"
    view = stage_config(load_config(tmp_path / "run.yaml"), "grpo")
    GRPOTrainer(view, tmp_path / "one", accelerator=Accelerator(cpu=True), console=Console(quiet=True)).train()
    shared, alone = (measured(folder / "difficulty.jsonl") for folder in (tmp_path / "run/grpo", tmp_path / "one"))
    assert shared == alone
    assert len(shared[1]) == SIZE


def measured(path: Path) -> tuple[dict[str, Any], dict[str, float]]:
    head, *rows = [json.loads(line) for line in path.read_text().splitlines()]
    return head, {row["problem"]: row["pass_rate"] for row in rows}

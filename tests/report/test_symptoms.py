"""The doctor on metrics of real runs: quiet about a healthy one, and right about faults that were planted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from r1rl import GRPOTrainer
from r1rl.config import RunConfig
from r1rl.report.diagnose import GOOD, broken
from r1rl.report.read import Stage
from r1rl.report.symptoms import causes
from r1rl.tracking.jsonl import read_jsonl

REWARDS = """
def digits(completions, **kwargs):
    return [sum(ch.isdigit() for ch in c) / (1 + len(c)) + 0.01 * (i % 4) for i, c in enumerate(completions)]

def constant(completions, **kwargs):
    return [1.0] * len(completions)
"""


def rows_of(folder: Path, tmp_path: Path, reward: str = "digits", **changes: Any) -> list[dict[str, Any]]:
    """metrics.jsonl of a few steps of a tiny policy, four updates per rollout."""
    (tmp_path / "rewards.py").write_text(REWARDS)
    settings: dict[str, Any] = {
        "device": "cpu",
        "model": {"path": str(folder)},
        "data": {
            "train": {"sums": {"path": "generated:arithmetic", "args": {"split": "train", "size": 40, "seed": 1}}},
            "prompt": {"template": "r1_zero", "system": "", "max_tokens": 64},
        },
        "rewards": {reward: {"function": f"{tmp_path / 'rewards.py'}:{reward}"}},
        "rollout": {"prompts_per_step": 4, "group_size": 4, "max_new_tokens": 16},
        "grpo": {"steps": 4, "learning_rate": 1e-3, "minibatches": 2, "epochs": 2, "tokens_per_microbatch": 512},
    }
    for name, value in changes.items():
        settings[name] = {**settings.get(name, {}), **value}
    GRPOTrainer(RunConfig.model_validate(settings), tmp_path / "run").train()
    return list(read_jsonl(tmp_path / "run" / "metrics.jsonl"))


def without_truncation(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """An untrained policy seldom ends its text."""
    return [row | {"rollout/truncated": 0.0} for row in rows]


def test_a_healthy_run_with_several_updates_per_rollout(tiny_folder: Path, tmp_path: Path) -> None:
    rows = without_truncation(rows_of(tiny_folder, tmp_path))
    assert all(row["policy/updates"] == 4 for row in rows)
    assert max(row["policy/ratio_deviation"] for row in rows) > 1e-3, "π moves away from π_old within a rollout"
    assert max(row["policy/first_ratio_deviation"] for row in rows) < 1e-4
    assert causes(rows) == []
    assert broken(Stage("zero", "grpo", {}, metrics=rows)).level == GOOD


def test_a_flat_reward_and_cut_completions(tiny_folder: Path, tmp_path: Path) -> None:
    rows = rows_of(tiny_folder, tmp_path, "constant", rollout={"max_new_tokens": 4})
    flat, cut = causes(rows)
    assert "equal rewards" in flat
    assert "rollout.max_new_tokens" in cut
    assert "rollout.max_new_tokens" in " ".join(broken(Stage("zero", "grpo", {}, metrics=rows)).why)


def test_dropout(tiny_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="pip install peft")
    lora = {"path": str(tiny_folder), "lora": {"rank": 8, "dropout": 0.5}}
    found = causes(without_truncation(rows_of(tiny_folder, tmp_path, model=lora, grpo={"learning_rate": 0.05})))
    assert "model.lora.dropout" in " ".join(found)


@pytest.mark.parametrize("rows", [3, 40])
def test_a_tag_that_the_template_opened_already(rows: int) -> None:
    metrics = [{"reward/mean": 0.5, "reward/format/mean": 0.0, "reward/accuracy/mean": 0.5, "rollout/truncated": 0.0}]
    [cause] = causes(metrics * rows)
    assert "data.prompt.prefill" in cause
    assert cause in broken(Stage("zero", "grpo", {}, metrics=metrics * rows)).why


@pytest.mark.parametrize(("share", "found"), [(0.19, False), (0.3, True)])
def test_the_report_and_the_doctor_have_the_same_bounds(share: float, found: bool) -> None:
    rows = [{"reward/mean": 0.5, "rollout/truncated": share}] * 30
    assert bool(causes(rows)) == found
    assert (broken(Stage("zero", "grpo", {}, metrics=rows)).level != GOOD) == found

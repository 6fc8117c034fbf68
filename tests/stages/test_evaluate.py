"""Figures of an evaluation, where some or all completions were not judged."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest

from r1rl.evaluation.measure import measure
from r1rl.rollout.build import build_engine
from r1rl.stages import evaluate
from r1rl.stages.evaluate import run
from r1rl.types import Completion, Group, Problem, ScoredGroup

NAN = math.nan

PLAN = """
model: {model}
data:
  eval: {{sums: {{path: "generated:arithmetic", args: {{split: test, size: 3}}}}}}
  prompt: {{system: ""}}
rollout: {{max_new_tokens: 4}}
rewards:
  accuracy: {{function: "{rewards}:silent"}}
  other: {{function: "{rewards}:silent"}}
evaluate: {{samples: 2}}
stages: {{measure: {{kind: evaluate}}}}
"""


def scored(accuracy: list[float], **others: list[float]) -> ScoredGroup:
    texts = [f"the answer is {i}" for i in range(len(accuracy))]
    completions = [Completion(np.arange(3), np.zeros(3, np.float32), text, "stop") for text in texts]
    values = {name: np.array(each) for name, each in {"accuracy": accuracy, **others}.items()}
    return ScoredGroup(Group(Problem("p", (1,), "q"), completions), np.array(accuracy), values)


def test_what_was_not_judged_is_neither_right_nor_wrong() -> None:
    result = measure([scored([1, NAN], other=[NAN, NAN]), scored([0, 1], other=[NAN, NAN])], "accuracy")
    assert result.metrics["pass@1"] == pytest.approx(0.75)
    assert result.metrics["pass@2"] == 1.0
    assert result.metrics["unjudged"] == 0.25
    assert "other" not in result.metrics


def test_an_evaluation_that_nothing_judged_writes_valid_json(tiny: Path, stages, tmp_path: Path) -> None:
    rewards = tmp_path / "rewards.py"
    rewards.write_text("def silent(completions):\n    return [None] * len(completions)\n")
    context = stages(PLAN.format(model=tiny, rewards=rewards), "measure")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        result = run(context)
    assert set(result.metrics) == {"sums/length", "sums/truncated", "sums/problems"}

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    saved = json.loads((context.folder / "evaluation.json").read_text(), parse_constant=refuse)["sums"]
    assert saved["correct"] is None
    assert [row["reward"] for row in saved["samples"]] == [None] * 3


def test_as_many_sequences_at_once_as_configured(tiny: Path, stages, tmp_path: Path, monkeypatch) -> None:
    made = []

    def build(cfg, policy):
        made.append(cfg.rollout.max_concurrent)
        return build_engine(cfg, policy)

    monkeypatch.setattr(evaluate, "build_engine", build)
    rewards = tmp_path / "rewards.py"
    rewards.write_text("def silent(completions):\n    return [1.0] * len(completions)\n")
    result = run(stages(PLAN.format(model=tiny, rewards=rewards), "measure", "evaluate.batch_size=5"))
    assert made == [5]
    assert result.metrics["sums/pass@1"] == 1.0

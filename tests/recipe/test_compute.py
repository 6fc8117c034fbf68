"""What a stage cost, from what it logged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from r1rl.recipe.compute import measured


def cost(folder: Path, model: Path, *lines: dict[str, float]) -> dict[str, float]:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    work = measured("grpo", folder, model, {})
    assert work is not None
    return work.metrics()


def test_every_epoch_and_every_sampled_token_counts(tmp_path: Path, tiny_folder: Path) -> None:
    line = {"rollout/tokens": 100.0, "rollout/prompt_tokens": 20.0}
    once = cost(tmp_path, tiny_folder, line | {"policy/tokens": 120.0})
    twice = cost(tmp_path, tiny_folder, line | {"policy/tokens": 240.0, "rollout/dynamic_tokens": 400.0})
    assert (once["compute/trained_tokens"], once["compute/generated_tokens"]) == (120, 100)
    assert (twice["compute/trained_tokens"], twice["compute/generated_tokens"]) == (240, 400)
    assert twice["compute/flops"] == once["compute/parameters"] * (6 * 240 + 2 * 400)
    assert cost(tmp_path, tiny_folder, line)["compute/flops"] == pytest.approx(once["compute/flops"]), "older lines"

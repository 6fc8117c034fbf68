"""Rejection sampling: restartable, verifiable, with a reason for everything it drops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from r1rl.rollout.torch_engine import TorchEngine
from r1rl.scoring import Scorer
from r1rl.stages import sample
from r1rl.stages.rewrite import scores_of
from r1rl.stages.sample_log import SampleLog

PLAN = """
name: plan
threads: 1
device: cpu
stages: {{ draw: {{ kind: sample, model: {model} }} }}
data:
  train: {{ sums: {{ path: generated:bilingual, args: {{ split: train, size: 12 }} }} }}
  eval: {{ held_out: {{ path: generated:bilingual, args: {{ split: test, size: 5 }} }} }}
  prompt: {{ template: r1_zero, system: "", max_tokens: 64 }}
rewards: {{ short: {{ function: "{rewards}:short" }}, format: 1.0 }}
rollout: {{ max_new_tokens: 8, max_concurrent: 8 }}
sample: {{ samples: 3, keep: {{ short: 0.5 }}, filters: {{ truncated: false, thought: false, language: null }} }}
tracking: {{ console: false }}
"""
REWARDS = '''
def short(completions, **kwargs):
    """An untrained model's texts differ in length: that is all there is to tell them apart."""
    return [float(len(text) % 2) for text in completions]
'''


@pytest.fixture
def plan(tiny: Path, tmp_path: Path) -> str:
    (tmp_path / "rewards.py").write_text(REWARDS)
    return PLAN.format(model=tiny, rewards=tmp_path / "rewards.py")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_have_their_origin_and_verify_again(stages: Any, plan: str) -> None:
    ctx = stages(plan, "draw")
    result = sample.run(ctx)
    assert result.data is not None
    kept, dropped = lines(result.data), lines(ctx.folder / "dropped.jsonl")
    assert len(kept) + len(dropped) == 36 == result.metrics["samples"]
    assert result.metrics["generated_tokens"] == sum(row["tokens"] for row in kept + dropped)
    assert all(row["rewards"]["short"] == 1 for row in kept)
    assert {row["dropped"] for row in dropped} <= {"short", "double"}
    assert all(row["origin"]["model"] and row["origin"]["model_hash"] and row["problem"] for row in kept)
    table = json.loads((ctx.folder / "filters.json").read_text())
    assert table[-1][2] == len(kept)
    with Scorer(ctx.config.rewards, ctx.config.scoring) as scorer:
        again = scores_of(kept, [range(row["tokens"]) for row in kept], scorer)
    assert [verdict["rewards"] for verdict in again] == [row["rewards"] for row in kept]


def test_a_killed_run_goes_on_and_gives_the_same(stages: Any, plan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = stages(plan, "draw")
    whole = sample.run(ctx)
    assert whole.data is not None
    expected = whole.data.read_text()
    log = ctx.folder / "samples-0.jsonl"
    written = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(written[:5]) + written[5][:40])  # the kill came in the middle of a line
    whole.data.unlink()
    asked: list[int] = []
    stream = TorchEngine.stream

    def counted(self: TorchEngine, requests: Any, params: Any) -> Any:
        asked.append(len(requests))
        return stream(self, requests, params)

    monkeypatch.setattr(TorchEngine, "stream", counted)
    sample.run(ctx)
    assert asked == [7]
    assert whole.data.read_text() == expected


def test_other_filters_sample_nothing_again(stages: Any, plan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = stages(plan, "draw")
    sample.run(ctx)
    log = (ctx.folder / "samples-0.jsonl").read_bytes()
    monkeypatch.delattr(TorchEngine, "stream")
    loose, strict = (lines(sample.run(stages(plan, "draw", *keys)).data) for keys in LOOSE_AND_STRICT)
    assert len(loose) == 36
    assert len(strict) == 12 == len({row["problem"] for row in strict})
    assert all(row in loose for row in strict)
    assert (ctx.folder / "samples-0.jsonl").read_bytes() == log


LOOSE_AND_STRICT = (
    ("sample.keep.short=-1", "sample.deduplicate=false"),
    ("sample.keep.short=-1", "sample.deduplicate=false", "sample.per_problem=1"),
)


def test_the_log_survives_a_torn_line(tmp_path: Path) -> None:
    log = SampleLog(tmp_path, 0)
    log.append("a", [{"x": 1}])
    log.append("b", [{"x": 2}])
    log.close()
    with (tmp_path / "samples-0.jsonl").open("a") as stream:
        stream.write('{"problem": "c", "ro')
    again = SampleLog(tmp_path, 0)
    assert set(again.read()) == {"a", "b"}
    again.append("c", [])
    assert set(again.read()) == {"a", "b", "c"}

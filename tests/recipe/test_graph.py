"""What a stage builds on, and what changes its identity."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from r1rl.config import load_config
from r1rl.errors import ConfigError
from r1rl.fingerprint.identity import Identity
from r1rl.recipe.compute import lineage, spent
from r1rl.recipe.graph import dependents, graph, resolved

PLAN = """
name: plan
stages:
  base: {{ kind: pretrain }}
  judge: {{ kind: reward_model, model: base }}
  drawn:
    kind: sample
    model: base
    rewards: {{ judge: {{ function: reward_model, args: {{ model: "${{judge.model}}" }} }} }}
  tuned: {{ kind: sft, model: base, data: "${{drawn.data}}" }}
  eval: {{ kind: evaluate, model: "${{tuned.model}}" }}
data:
  train: {{ rows: {{ path: {rows} }} }}
  eval: {{ held_out: {{ path: generated:arithmetic, args: {{ split: test, size: 3 }} }} }}
rewards: {{ accuracy: 1.0 }}
"""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"question": "q", "answer": "1"}) + "\n")
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN.format(rows=rows))
    return path


def fingerprints(path: Path, *overrides: str) -> dict[str, str]:
    """Of every stage, as if each had made the same whatever it was asked."""
    nodes = graph(load_config(path, overrides))
    outputs = {name: {"model": Path("made") / name, "data": Path("made") / f"{name}.jsonl"} for name in nodes}
    return {name: Identity.of(node.kind, resolved(node, outputs)).fingerprint for name, node in nodes.items()}


def changed(path: Path, *overrides: str) -> set[str]:
    before, after = fingerprints(path), fingerprints(path, *overrides)
    return {name for name in before if before[name] != after[name]}


def test_inputs(plan: Path) -> None:
    nodes = graph(load_config(plan))
    assert {name: node.inputs for name, node in nodes.items()} == {
        "base": (),
        "judge": ("base",),
        "drawn": ("base", "judge"),
        "tuned": ("base", "drawn"),
        "eval": ("tuned",),
    }
    assert dependents(nodes, "judge") == {"judge", "drawn", "tuned", "eval"}


def test_a_change_reaches_its_own_stage_and_nothing_else(plan: Path) -> None:
    assert changed(plan, "reward_model.learning_rate=1e-3") == {"judge"}
    assert changed(plan, "stages.tuned.sft.learning_rate=1e-3") == {"tuned"}
    assert changed(plan, "evaluate.samples=3") == {"eval"}
    assert changed(plan, "tracking.samples_per_step=1", "name=other", "output_dir=/elsewhere") == set()
    assert changed(plan, "seed=3") == {"base", "judge", "drawn", "tuned", "eval"}


def test_the_content_of_a_local_file_counts(plan: Path) -> None:
    before = fingerprints(plan)
    with (plan.parent / "rows.jsonl").open("a") as stream:
        stream.write(json.dumps({"question": "another", "answer": "2"}) + "\n")
    after = fingerprints(plan)
    assert {name for name in before if before[name] != after[name]} == {"judge", "drawn"}


def test_references_become_paths(plan: Path, tmp_path: Path) -> None:
    nodes = graph(load_config(plan))
    outputs = {name: {"model": tmp_path / name / "model", "data": tmp_path / name / "data.jsonl"} for name in nodes}
    drawn = resolved(nodes["drawn"], outputs)
    assert drawn.model.path == str(tmp_path / "base" / "model")
    assert drawn.rewards["judge"].args == {"model": str(tmp_path / "judge" / "model")}
    tuned = resolved(nodes["tuned"], outputs)
    assert {name: source.path for name, source in tuned.data.train.items()} == {
        "drawn": str(tmp_path / "drawn" / "data.jsonl")
    }
    assert resolved(nodes["eval"], outputs).model.path == str(tmp_path / "tuned" / "model")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.tuned.data=${drawm.data}", r"no stage is called drawm; did you mean drawn\?"),
        ("stages.judge.model=${tuned.model}", "stage tuned does not come before this one"),
        ("stages.tuned.data=${base.data}", "a stage of kind pretrain makes model"),
        ("stages.tuned.data=${drawn}", "is not a reference"),
        ("stages.tuned.model=drawn", "makes no model that writes text"),
        ("stages.tuned.model=judge", "makes no model that writes text"),
    ],
)
def test_wrong_references_are_found_before_anything_runs(plan: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(plan, [override])


def test_compute_follows_checkpoints_and_what_was_borrowed(plan: Path) -> None:
    nodes = graph(load_config(plan))
    assert lineage(nodes, "tuned", borrowed=False) == ["base", "tuned"]
    assert lineage(nodes, "tuned", borrowed=True) == ["base", "judge", "drawn", "tuned"]
    flops = {"base": 1.0, "judge": 10.0, "drawn": 100.0, "tuned": 1000.0}
    results = {name: {"compute/flops": value} for name, value in flops.items()}
    assert spent(nodes, results, "tuned", borrowed=False) == 1001
    assert spent(nodes, results, "tuned", borrowed=True) == 1111


def test_rejection_sampling_knows_every_evaluation_set(plan: Path) -> None:
    more = "stages.eval.data.eval.other={path: generated:arithmetic, args: {split: test, size: 4}}"
    nodes = graph(load_config(plan, [more]))
    assert set(nodes["drawn"].view.data.eval) == {"held_out", "other"}
    assert changed(plan, more) == {"drawn", "eval"}


def test_what_trains_knows_every_evaluation_set(plan: Path) -> None:
    more = "stages.eval.data.eval.other={path: generated:arithmetic, args: {split: test, size: 4}}"
    policy = "stages.policy={kind: grpo, model: base}"
    columns = (
        "stages.eval.data.eval.column={path: generated:arithmetic, args: {split: test, size: 3}, question: answer}"
    )
    nodes = graph(load_config(plan, [more, policy, columns]))
    for name in ("judge", "tuned", "policy"):
        assert set(nodes[name].view.data.eval) == {"held_out"}
        assert set(nodes[name].view.data.held_out) == {"other", "column"}
    assert changed(plan, more, "data.on_overlap=drop") == {"judge", "drawn", "tuned", "eval"}


def test_what_a_later_stage_makes_is_not_held_out(plan: Path, tmp_path: Path) -> None:
    made = "stages.eval.data.eval.made.path=${drawn.data}"
    nodes = graph(load_config(plan, [made]))
    assert "made" not in nodes["judge"].view.data.held_out
    assert "made" not in nodes["drawn"].view.data.eval
    assert nodes["tuned"].view.data.held_out["made"].path == "${drawn.data}"
    outputs = {name: {"model": tmp_path / name, "data": tmp_path / f"{name}.jsonl"} for name in nodes}
    assert resolved(nodes["tuned"], outputs).data.held_out["made"].path == str(tmp_path / "drawn.jsonl")

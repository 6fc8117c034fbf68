"""Reading run folders that are whole, half written or something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from r1rl.errors import DataError
from r1rl.report.read import flat, read_run, spread


def test_a_finished_run(run_dir: Path) -> None:
    run = read_run(run_dir)
    assert [(stage.name, stage.kind, stage.start) for stage in run.stages] == [
        ("base", "pretrain", ""),
        ("base-eval", "evaluate", "base"),
        ("zero", "grpo", "base"),
        ("zero-eval", "evaluate", "zero"),
    ]
    zero = run.stage("zero")
    assert zero is not None
    assert (zero.step, zero.total, zero.finished) == (120, 120, True)
    steps, values = zero.curve("reward/mean")
    assert len(steps) == len(values) == 120
    assert len(zero.curve("eval/held_out/pass@1")[0]) == 6
    assert run.stages[0].total == 200


def test_what_is_missing_or_cut_off_is_left_out(run_dir: Path) -> None:
    metrics = run_dir / "zero" / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes() + b'{"step": 121, "reward/me')
    (run_dir / "zero" / "samples.jsonl").unlink()
    (run_dir / "results.json").unlink()
    zero = read_run(run_dir).stage("zero")
    assert zero is not None
    assert (zero.step, zero.samples, zero.finished) == (120, [], False)


def test_values_that_are_not_finite_are_no_points(tmp_path: Path) -> None:
    (tmp_path / "rl").mkdir()
    lines = [{"step": 1, "policy/loss": 1.0}, {"step": 2, "policy/loss": None, "policy/loss/non_finite": 1}]
    (tmp_path / "rl" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    stage = read_run(tmp_path).stages[0]
    assert stage.curve("policy/loss") == ([1], [1.0])


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_no_run_folder_is_one_line_of_advice(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="folder"):
        read_run(tmp_path / name)


def test_of_a_very_large_file_lines_from_all_over_it_are_read(run_dir: Path) -> None:
    samples = run_dir / "zero" / "samples.jsonl"
    everything = spread(samples)
    some = spread(samples, largest=1000, lines=50)
    assert len(some) == 50
    assert all(row in everything for row in some)
    steps = [row["step"] for row in some]
    assert steps == sorted(steps)
    assert steps[0] == 1
    assert steps[-1] > 110


def test_figures_by_their_path() -> None:
    assert flat({"metrics": {"a/b": 1}, "more": {"c": 2.5, "text": "x", "yes": True}}) == {"a/b": 1.0, "more/c": 2.5}

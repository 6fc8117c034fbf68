"""A small demo run, reported to every service at once and read back: the documented names, each step once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1rl.tracking import read_jsonl
from r1rl.tracking.names import undocumented
from tests.support.small_demo import SMALL
from tests.support.waits import HANG_S
from tests.support.wandb_file import log_records

ROOT = Path(__file__).parents[2]
WATCHED = (
    "grpo.steps=6",
    "grpo.eval_every=2",
    "grpo.checkpoint_every=2",
    "tracking.report_to=[wandb, trackio, tensorboard]",
)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps; then, as if it had been stopped after the fifth, the same command again from the fourth."""
    folder = tmp_path_factory.mktemp("demo")
    hidden = {"WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE"}
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    env |= {"NETRC": str(folder / "none"), "TRACKIO_DIR": str(folder / "trackio"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "r1rl", "run", "configs/tiny/zero.yaml", f"output_dir={folder}", "name=demo"]
    command += [*SMALL, *WATCHED]
    for _ in range(2):
        done = subprocess.run(
            [*command, *SMALL, *WATCHED], cwd=ROOT, env=env, capture_output=True, text=True, timeout=HANG_S
        )
        assert done.returncode == 0, done.stderr + done.stdout
        (folder / "demo/zero/stage.json").unlink()
        shutil.rmtree(folder / "demo/zero/checkpoints/step-000006")
    assert "resuming after step 4" in done.stdout
    return folder / "demo"


def files(run_dir: Path) -> list[tuple[int, set[str]]]:
    return [(row["step"], set(row) - {"step"}) for row in read_jsonl(run_dir / "zero" / "metrics.jsonl")]


def tensorboard(run_dir: Path) -> list[tuple[int, set[str]]]:
    pytest.importorskip("tensorboard", reason="an optional service")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_dir / "zero" / "tensorboard"))
    events.Reload()
    by_step: dict[int, set[str]] = {}
    for name in events.Tags()["scalars"]:
        for event in events.Scalars(name):
            by_step.setdefault(event.step, set()).add(name)
    return sorted(by_step.items())


def wandb(run_dir: Path) -> list[tuple[int, set[str]]]:
    pytest.importorskip("wandb", reason="an optional service")
    from wandb.proto import wandb_internal_pb2

    rows: list[tuple[int, set[str]]] = []
    for file in sorted((run_dir / "zero" / "wandb").glob("offline-run-*/*.wandb")):
        for data in log_records(file):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "history":
                items: dict[str, Any] = {
                    "/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item
                }
                rows.append(
                    (items["_step"], {name for name in items if "/" in name and not name.startswith("samples")})
                )
    return rows


def trackio(run_dir: Path) -> list[tuple[int, set[str]]]:
    pytest.importorskip("trackio", reason="an optional service")
    code = """
import json, sys
from trackio.sqlite_storage import SQLiteStorage
for run in SQLiteStorage.get_runs("r1rl"):
    if "/zero" in run:
        for row in SQLiteStorage.get_logs("r1rl", run):
            print(json.dumps([row["step"], [name for name in row if "/" in name]]))
"""
    env = dict(os.environ, TRACKIO_DIR=str(run_dir.parent / "trackio"))
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    by_step: dict[int, set[str]] = {}
    for line in done.stdout.splitlines():
        step, names = json.loads(line)
        by_step.setdefault(step, set()).update(names)
    return sorted(by_step.items())


@pytest.mark.parametrize("read", [files, tensorboard, wandb, trackio])
def test_every_step_is_there_once_with_documented_names(
    run_dir: Path, read: Callable[[Path], list[tuple[int, set[str]]]]
) -> None:
    rows = read(run_dir)
    assert [step for step, _ in rows] == [1, 2, 3, 4, 5, 6]
    names = set().union(*(found for _, found in rows))
    assert undocumented(names) == []
    wanted = {"reward/mean", "reward/accuracy/mean", "rollout/zero_variance_groups", "policy/loss", "time/step"}
    assert all(wanted <= found for _, found in rows)
    assert "eval/dev/pass@1" in names


def test_no_service_failed(run_dir: Path) -> None:
    assert not any("system/tracker_failures" in found for _, found in files(run_dir))


def test_the_same_held_out_problems_are_shown_at_every_evaluation(run_dir: Path) -> None:
    rows = list(read_jsonl(run_dir / "zero" / "samples.jsonl"))
    watched = [row for row in rows if row["problem_id"].startswith("dev-")]
    by_step = {step: {row["problem_id"] for row in watched if row["step"] == step} for step in (2, 4, 6)}
    assert by_step[2]
    assert by_step[2] == by_step[4] == by_step[6]


def test_the_run_leaves_its_report(run_dir: Path) -> None:
    text = (run_dir / "report.html").read_text()
    assert "zero-eval" in text
    assert "reward/accuracy/mean" in text

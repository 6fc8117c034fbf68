"""A recipe with every kind of stage: what is run, what is not run again, and what a kill costs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from r1rl.config import load_config
from r1rl.distributed.interrupt import PREEMPTED, Preempted
from r1rl.errors import ConfigError, R1Error
from r1rl.files import claim
from r1rl.recipe import run as recipe_run
from r1rl.recipe.run import run_recipe
from r1rl.recipe.status import status
from r1rl.tracking.base import FileTracker
from tests.support.waits import HANG_S

STAGES = ["base", "prefer", "drawn", "tuned", "rl", "out", "score"]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the stages that are run from now on."""
    seen: list[str] = []
    call = recipe_run._call

    def noted(kind: str, ctx: Any) -> Any:
        seen.append(ctx.name)
        return call(kind, ctx)

    monkeypatch.setattr(recipe_run, "_call", noted)
    return seen


def run(path: Path, *overrides: str, **chosen: Any) -> Path:
    return run_recipe(load_config(path, overrides), **chosen)


def figures(folder: Path) -> dict[str, dict[str, float]]:
    """What a run found, without times."""
    results = json.loads((folder / "results.json").read_text())
    return {s: {k: v for k, v in values.items() if not k.startswith("time/")} for s, values in results.items()}


def test_the_life_of_a_run(recipe: Path, ran: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(recipe)
    assert ran == STAGES
    found = figures(folder)
    assert set(found) == set(STAGES)
    assert found["rl"]["compute/flops"] > 0
    assert found["rl"]["compute/generated_tokens"] > 0

    ran.clear()
    run(recipe)
    assert ran == []

    with pytest.raises(R1Error, match=r"stage rl: grpo.learning_rate 0.001 → 0.002 \(finished\).*--yes"):
        run(recipe, "stages.rl.grpo.learning_rate=2e-3")
    assert ran == []
    run(recipe, "stages.rl.grpo.learning_rate=2e-3", yes=True)
    assert ran == ["rl", "out", "score"]
    assert (folder / "rl.1" / "stage.json").is_file()  # nobody's work is deleted

    ran.clear()
    run(recipe, "stages.rl.grpo.learning_rate=2e-3", only="score")
    assert ran == []
    run(recipe, "stages.rl.grpo.learning_rate=2e-3", start="tuned")
    assert ran == ["tuned", "rl", "out", "score"]

    ran.clear()
    weights = folder / "tuned" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])  # spoilt on the disk
    run(recipe, "stages.rl.grpo.learning_rate=2e-3", yes=True)
    assert ran == ["tuned"]  # made again, and equal: what builds on it stands

    capsys.readouterr()
    status(folder)
    shown = capsys.readouterr().out
    assert shown.count("done") >= len(STAGES)


def test_idle_gpus_are_mentioned(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    def eight(device: str) -> int:
        return 8

    monkeypatch.setattr(recipe_run, "visible_gpus", eight)
    run(recipe, until="drawn")
    assert "drawn: sample, on one of 8 visible GPUs; with --launch zero2 it runs on all of them" in caplog.messages
    assert "base: pretrain" in caplog.messages, "it runs in one process in any case"


def test_what_a_stage_builds_on_must_be_done(recipe: Path, ran: list[str]) -> None:
    with pytest.raises(ConfigError, match="stage drawn builds on base, not done yet"):
        run(recipe, only="drawn")
    with pytest.raises(ConfigError, match="no stage is called draw"):
        run(recipe, only="draw")
    run(recipe, only="base")
    run(recipe, only="drawn")
    assert ran == ["base", "drawn"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.rl.rewards.odd.function=gone.py:odd", "stage rl: reward file 'gone.py' does not exist"),
        ("stages.rl.rewards.fromat=1.0", "stage rl: no reward is called 'fromat'; did you mean 'format'"),
        ("stages.rl.data.train.sums.path=gone.jsonl", "stage rl: dataset file gone.jsonl does not exist"),
        ("stages.score.data.eval.held_out.path=./gone", "stage prefer: dataset ./gone does not exist"),
        ("stages.rl.data.train.sums.args.splitt=train", "stage rl: generated:bilingual cannot take these args"),
    ],
)
def test_what_a_late_stage_misses_is_said_before_the_first(
    recipe: Path, ran: list[str], override: str, message: str
) -> None:
    with pytest.raises(R1Error, match=re.escape(message)):
        run(recipe, override)
    assert ran == []


def test_two_runs_do_not_share_a_folder(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "mini").mkdir()
    with (tmp_path / "mini" / ".lock").open("w") as lock:
        lock.write("4711")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(R1Error, match="in use by process 4711"):
            run(recipe)


def start(path: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "r1rl", "run", str(path)], env=environment, start_new_session=True)


@pytest.mark.integration
def test_a_stage_in_processes_of_its_own(recipe: Path, tmp_path: Path, ran: list[str]) -> None:
    launch = tmp_path / "launch.yaml"
    launch.write_text("compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\nnum_processes: 1\nuse_cpu: true\n")
    folder = run(recipe, f"stages.base.launch={launch}", until="base")
    assert ran == []  # not in this process
    assert (folder / "base" / "stage.json").is_file()
    run(recipe, until="base")
    assert ran == []  # how a stage was launched does not change what it made


@pytest.mark.slow
def test_a_kill_in_every_stage_changes_nothing(recipe: Path, tmp_path: Path) -> None:
    whole = run(recipe, "name=whole")
    folder = tmp_path / "mini"
    written: dict[str, int] = {}
    for stage in STAGES:
        process = start(recipe)
        while not (folder / stage / "fingerprint").is_file() and process.poll() is None:
            time.sleep(0.005)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for name, when in written.items():
            assert (folder / name / "stage.json").stat().st_mtime_ns == when, f"{name} was done again"
        written = {
            n: (folder / n / "stage.json").stat().st_mtime_ns for n in STAGES if (folder / n / "stage.json").is_file()
        }
    assert start(recipe).wait(timeout=HANG_S) == 0
    assert figures(folder) == figures(whole)


@pytest.mark.integration
def test_two_processes_run_the_same_recipe(recipe: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--mixed_precision"]
    command += ["no", "--num_machines", "1", "--dynamo_backend", "no", "-m", "r1rl", "run", str(recipe)]
    subprocess.run(command, check=True, timeout=HANG_S, env=os.environ | {"OMP_NUM_THREADS": "1"})
    alone = figures(run(recipe, "name=alone"))
    together = figures(tmp_path / "mini")
    assert set(together) == set(STAGES)
    assert together["base"] == alone["base"]
    assert together["drawn"] == alone["drawn"]
    assert together["tuned"]["loss"] == pytest.approx(alone["tuned"]["loss"], abs=1e-3)


def test_a_folder_with_something_else_is_not_a_run_folder(recipe: Path, tmp_path: Path) -> None:
    """Not even one with the configuration that the user wrote in it."""
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / "config.yaml").write_text("# written by hand\n")
    with pytest.raises(ConfigError, match=r"\(config.yaml\); choose another folder: .* output_dir/name"):
        run(recipe)
    assert [f.name for f in (tmp_path / "mini").iterdir()] == ["config.yaml"]
    assert (tmp_path / "mini" / "config.yaml").read_text() == "# written by hand\n"


@pytest.mark.parametrize("start", [None, "drawn"])
def test_a_stage_does_not_move_into_a_folder_of_the_user(recipe: Path, tmp_path: Path, start: str | None) -> None:
    run(recipe, until="base")
    (tmp_path / "mini" / "drawn").mkdir()
    (tmp_path / "mini" / "drawn" / "data.jsonl").write_text("mine")
    with pytest.raises(ConfigError, match=r"drawn contains files that r1rl did not write \(data.jsonl\)"):
        run(recipe, until="drawn", start=start)
    assert (tmp_path / "mini" / "drawn" / "data.jsonl").read_text() == "mine"


def test_a_run_is_the_same_from_any_folder(
    tmp_path: Path,
    tiny_folder: Path,
    ran: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    shutil.copytree(tiny_folder, project / "tiny")
    (project / "mine.yaml").write_text(
        "stages: { out: { kind: export, model: ./tiny } }\ntracking: { console: false }\ndevice: cpu\n"
    )
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    folder = run(Path("../project/mine.yaml")).absolute()
    assert folder == elsewhere / "runs" / "run"
    monkeypatch.chdir("/")
    status(folder)
    assert "done" in capsys.readouterr().out
    run(folder / "config.yaml")
    assert ran == ["out"]
    archive = tmp_path / "archive" / "x"
    archive.parent.mkdir()
    folder.rename(archive)
    assert run(archive / "config.yaml") == archive
    assert ran == ["out"]
    assert not folder.exists()
    monkeypatch.chdir(archive)
    assert run(Path("config.yaml"), "name=y", until="out") == archive.with_name("y")
    assert ran == ["out", "out"]  # another name, asked for, is another run


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_saves_leaves_a_mark_and_names_the_command(
    recipe: Path, tmp_path: Path, number: int, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a stage; the next one does not begin, and the mark is removed when the stage resumes."""
    log, folder = FileTracker.log, tmp_path / "mini" / "base"

    def logged(tracker: FileTracker, step: int, metrics: Any) -> None:
        log(tracker, step, metrics)
        if step == 2:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patched:
        patched.setattr(FileTracker, "log", logged)
        patched.setattr(sys, "argv", ["/bin/r1rl", "run", "recipe.yaml"])
        with pytest.raises(Preempted, match=r"step 2 is saved .*resumes from there: r1rl run recipe.yaml") as ended:
            run(recipe, until="base")
    assert ended.value.exit_code == code
    assert (folder / PREEMPTED).exists()
    run(recipe, until="base")
    assert not (folder / PREEMPTED).exists()
    lines = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines == list(range(1, len(lines) + 1))


def test_an_interrupted_sft_stage_goes_on_with_more_epochs_and_smaller_micro_batches(
    recipe: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from r1rl.stages import trl_bridge as trainer

    folder = run(recipe, until="drawn")

    def cut(*_: Any) -> None:
        raise R1Error("cut off before the model was written")

    ran.clear()
    with monkeypatch.context() as patched:
        patched.setattr(trainer, "save_model", cut)
        with pytest.raises(R1Error, match="cut off"):
            run(recipe, only="tuned")
    before = [json.loads(line) for line in (folder / "tuned" / "metrics.jsonl").read_text().splitlines()]
    run(recipe, "sft.epochs=4", "sft.micro_batch_size=2", "sft.checkpoint_every=2", only="tuned")
    after = [json.loads(line) for line in (folder / "tuned" / "metrics.jsonl").read_text().splitlines()]
    assert ran == ["tuned", "tuned"]
    assert after[: len(before)] == before  # resumed after what was learned
    assert len(after) == 2 * len(before)
    assert not (folder / "tuned.1").exists()


@pytest.mark.parametrize("fails_at", ["write", "clear"])
def test_a_finished_stage_is_not_trained_again_whatever_happens_before_it_is_noted(
    recipe: Path, tmp_path: Path, fails_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checkpoints lie on another disk, as those of a large model do."""
    folder, disk = run(recipe, only="base"), tmp_path / "disk"
    run(recipe, only="drawn")
    disk.mkdir()
    claim(folder / "tuned")
    (folder / "tuned" / "checkpoints").symlink_to(disk)

    def fails(*_: Any) -> None:
        raise OSError("the process was killed, or the disk went away")

    with monkeypatch.context() as patched:
        patched.setattr(recipe_run.record if fails_at == "write" else recipe_run, fails_at, fails)
        with pytest.raises(OSError, match="was killed") if fails_at == "write" else contextlib.nullcontext():
            run(recipe, only="tuned")
    before = (folder / "tuned" / "metrics.jsonl").read_text()
    assert list(disk.glob("checkpoint-*"))
    run(recipe, only="tuned")
    assert (folder / "tuned" / "metrics.jsonl").read_text() == before
    if fails_at == "write":
        assert not list(disk.glob("checkpoint-*"))
    assert (folder / "tuned" / "stage.json").is_file()
    assert not (folder / "tuned.1").exists()

"""Runs that are killed at any moment and started again end as if nothing had happened."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.support.small_grpo import ROOT, SETTINGS, learned, steps
from tests.support.waits import HANG_S


def command(folder: Path, launch: str = "") -> list[str]:
    config = ROOT / "configs" / "tiny" / "zero.yaml"
    module = ["-m", "r1rl", "run", str(config), "--until", "zero", *SETTINGS, f"output_dir={folder}"]
    if not launch:
        return [sys.executable, *module]
    file = ROOT / "launch" / "accelerate" / f"{launch}.yaml"
    launcher = ["-m", "accelerate.commands.launch", "--config_file", str(file), "--main_process_port", "0"]
    return [sys.executable, *launcher, *module]


def begin(folder: Path, launch: str = "") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command(folder, launch), env=os.environ | {"OMP_NUM_THREADS": "1"}, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finish(folder: Path, launch: str = "") -> None:
    process = begin(folder, launch)
    output, _ = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, output.decode()[-3000:]


def kill_at(folder: Path, step: int, after: float, number: int = signal.SIGKILL, launch: str = "") -> int:
    """Start the run, wait until ``step`` steps are logged and ``after`` seconds more, then signal it."""
    step = max(step, len(steps(folder)) + 1)  # of this start: a signal before it trains has its usual effect
    process = begin(folder, launch)
    deadline = time.monotonic() + HANG_S
    while process.poll() is None and len(steps(folder)) < step and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(after)
    if process.poll() is None:
        (os.killpg if number == signal.SIGKILL else os.kill)(process.pid, number)
    output, _ = process.communicate(timeout=HANG_S)
    print(f"step {step}: status {process.returncode}\n{output.decode()[-3000:]}")  # seen where the test fails
    return process.returncode


def same_end(folder: Path, whole: Path, within: float = 0.0) -> None:
    ours, theirs = (load_file(f / "tiny-zero" / "zero" / "model" / "model.safetensors") for f in (folder, whole))
    assert ours.keys() == theirs.keys()
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) <= within
    assert steps(folder) == list(range(1, 7))
    assert learned(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    finish(folder)
    return folder


@pytest.mark.integration
@pytest.mark.timeout(3 * HANG_S)
def test_three_kills_and_a_polite_end_change_nothing(whole, tmp_path):
    for step, after in ((1, 0.0), (2, 0.03), (3, 0.1)):
        assert kill_at(tmp_path, step, after) == -signal.SIGKILL
    assert kill_at(tmp_path, 4, 0.0, signal.SIGTERM) in (75, 0)
    finish(tmp_path)
    same_end(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(1800)
def test_twenty_kills_at_random_moments_change_nothing(whole, tmp_path):
    rng = random.Random(0)
    for kill in range(20):
        folder = tmp_path / str(kill // 4)  # four kills a run, so that the run also comes to its end five times
        kill_at(folder, rng.randint(0, 5), rng.random() * 0.3)
        if kill % 4 == 3:
            finish(folder)
            same_end(folder, whole)


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(1200)
@pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed: pip install 'r1rl[deepspeed]'"
)
def test_kills_of_two_zero_2_processes_change_nothing(tmp_path):
    finish(tmp_path / "whole", "zero2")
    rng = random.Random(1)
    for step in (1, 2, 3):  # or the one after the last that was logged; soon enough that the six steps are not over
        assert kill_at(tmp_path / "cut", step, rng.random() * 0.1, launch="zero2") == -signal.SIGKILL
    finish(tmp_path / "cut", "zero2")
    same_end(tmp_path / "cut", tmp_path / "whole", within=1e-6)

"""Stages under ``accelerate launch``: two processes over gloo, and what a scheduler's signal does to them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

from r1rl.config import load_config
from r1rl.recipe.run import run_recipe
from tests.support.waits import HANG_S, until

pytestmark = pytest.mark.integration
LAUNCH = """
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_CPU
use_cpu: true
num_machines: 1
num_processes: {processes}
main_process_port: 0
mixed_precision: "no"
"""


@pytest.fixture
def launched(tmp_path: Path, recipe: Path):
    """``launched(STAGE, processes)``: the recipe, run up to ``STAGE``, with a launch file for it."""

    def made(stage: str, processes: int) -> list[str]:
        file = tmp_path / "launch.yaml"
        text = LAUNCH.format(processes=processes)
        file.write_text(text if processes > 1 else text.replace("MULTI_CPU", '"NO"'))
        return [str(recipe), f"stages.{stage}.launch={file}"]

    return made


def steps(folder: Path) -> list[int]:
    file = folder / "metrics.jsonl"
    return [json.loads(line)["step"] for line in file.read_text().splitlines()] if file.exists() else []


def begin(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "r1rl", "run", *arguments], env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True,
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def test_two_steps_of_sft_on_two_processes_equal_one_process(tmp_path, recipe, launched):
    """As many rows an update on one process as on two together."""
    overrides = ["sft.batch_size=2", "sft.micro_batch_size=1", "sft.packing=false", "sft.epochs=1", "sample.samples=4"]
    run_recipe(load_config(recipe, overrides), until="tuned")
    alone = load_file(tmp_path / "mini" / "tuned" / "model" / "model.safetensors")
    counted = steps(tmp_path / "mini" / "tuned")
    config, launch = launched("tuned", 2)
    process = begin(config, launch, *overrides, "--from", "tuned", "--only", "tuned")
    output, _ = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, output[-3000:]
    together = load_file(tmp_path / "mini" / "tuned" / "model" / "model.safetensors")
    assert steps(tmp_path / "mini" / "tuned") == counted
    assert len(counted) >= 2
    worst = max(float((alone[name] - together[name]).abs().max()) for name in alone)
    assert worst < 1e-5


@pytest.mark.timeout(3 * HANG_S)
@pytest.mark.parametrize(("processes", "everybody"), [(2, False), pytest.param(1, True, marks=pytest.mark.slow)])
def test_a_preempted_stage_gives_75_and_goes_on(tmp_path, recipe, launched, processes, everybody):
    """``everybody``: as Slurm does, the signal goes to every process of the job."""
    run_recipe(load_config(recipe), until="tuned")
    arguments = [*launched("rl", processes), "grpo.steps=400", "grpo.checkpoint_every=0"]
    process, folder = begin(*arguments), tmp_path / "mini" / "rl"
    deadline = time.monotonic() + HANG_S
    while len(steps(folder)) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    family = psutil.Process(process.pid).children(recursive=True)
    if everybody:
        os.killpg(process.pid, signal.SIGUSR1)
    else:
        process.terminate()
    output, _ = process.communicate(timeout=HANG_S)
    assert process.returncode == 75, output[-3000:]
    assert "Traceback" not in output
    assert "the same command resumes from there: " in output.splitlines()[-1], output[-3000:]
    assert (folder / "preempted").exists()
    assert list((folder / "checkpoints").glob("step-*"))
    psutil.wait_procs(family, timeout=HANG_S)
    assert not [each for each in family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    done, again = len(steps(folder)), begin(*arguments)
    while len(steps(folder)) < done + 2 and again.poll() is None and time.monotonic() < deadline + HANG_S:
        time.sleep(0.02)
    again.terminate()
    output, _ = again.communicate(timeout=HANG_S)
    assert again.returncode == 75, output[-3000:]
    assert len(steps(folder)) >= done + 2
    assert steps(folder) == list(range(1, len(steps(folder)) + 1))


TWO_MACHINES = """
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_GPU
use_cpu: false
num_machines: 2
num_processes: 2
mixed_precision: "no"
"""


def on_two_machines(tmp_path: Path, recipe: Path, *arguments: str) -> list[subprocess.Popen[str]]:
    """The same command on both, started in the wrong order; only ``rl`` has processes on either."""
    file = tmp_path / "two.yaml"
    file.write_text(TWO_MACHINES)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    where = ["--num-machines", "2", "--main-process-ip", "127.0.0.1", "--main-process-port", port]
    words = [str(recipe), f"stages.rl.launch={file}", *arguments, *where]
    return [begin(*words, "--machine-rank", rank) for rank in ("1", "0")]


@pytest.mark.timeout(3 * HANG_S)
def test_the_second_machine_joins_the_run(tmp_path, recipe):
    processes = on_two_machines(tmp_path, recipe)
    said = [process.communicate(timeout=HANG_S)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert steps(tmp_path / "mini" / "rl") == [1, 2, 3]
    assert (tmp_path / "mini" / "results.json").is_file()
    text = " ".join(said)
    assert "2 processes on each" not in text
    assert "in use by process" not in text


@pytest.mark.slow
@pytest.mark.timeout(3 * HANG_S)
@pytest.mark.parametrize("told", [0, 1])
def test_a_preemption_of_either_machine_ends_both(tmp_path, recipe, told):
    run_recipe(load_config(recipe), until="tuned")
    processes = on_two_machines(tmp_path, recipe, "grpo.steps=400", "grpo.checkpoint_every=0")
    until(lambda: len(steps(tmp_path / "mini" / "rl")) > 1, "the second step")
    processes[told].terminate()
    said = [process.communicate(timeout=HANG_S)[0] for process in processes]
    assert [process.returncode for process in processes] == [75, 75], said
    assert list((tmp_path / "mini" / "rl" / "checkpoints").glob("step-*"))


def test_a_stage_that_fails_is_a_failure(recipe, launched):
    run_recipe(load_config(recipe), until="tuned")
    process = begin(*launched("rl", 1), "rewards.odd.function=nowhere.py:odd")
    output, _ = process.communicate(timeout=HANG_S)
    assert process.returncode == 2, output[-3000:]

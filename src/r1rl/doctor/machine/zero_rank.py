"""One rank of the check of ZeRO: ``python -m r1rl.doctor.machine.zero_rank MODEL FOLDER`` under ``accelerate launch``.

For each precision an update is made and saved (FIRST), another one is made (SECOND), and a new learner makes it once
more from what was saved (AGAIN).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from r1rl.config import GRPOConfig, ModelConfig
from r1rl.distributed.interrupt import end_with
from r1rl.distributed.processes import start
from r1rl.distributed.shards import write_tensors
from r1rl.doctor.machine.device import on_gpu
from r1rl.grpo.batch import Batch, Sample
from r1rl.grpo.learner import Learner
from r1rl.model.load import load_policy

DTYPES = ("float32", "bfloat16")
"""Bfloat16 last: DeepSpeed's settings of a process stay in it."""
FIRST, SECOND, AGAIN = "first", "second", "again"


def main(model: str, folder: Path) -> None:
    accelerator = start("cuda" if on_gpu() else "cpu", 120.0)
    for dtype in DTYPES:
        place = folder / dtype
        learner = learner_of(model, dtype, accelerator)
        first, second = batches()
        learner.update(first)
        write_tensors(place / FIRST, learner.tensors(), write=accelerator.is_main_process)
        state = learner.state_dict()
        learner.update(second)
        write_tensors(place / SECOND, learner.tensors(), write=accelerator.is_main_process)
        accelerator.wait_for_everyone()
        resumed = learner_of(model, dtype, accelerator, place / FIRST)
        resumed.load(place / FIRST, json.loads(json.dumps(state)))
        resumed.update(second)
        write_tensors(place / AGAIN, resumed.tensors(), write=accelerator.is_main_process)
        accelerator.wait_for_everyone()


def learner_of(model: str, dtype: str, accelerator: Accelerator, resume: Path | None = None) -> Learner:
    """A learner of the model in this folder, from a checkpoint's weights if one is given."""
    policy = load_policy(ModelConfig(path=model, dtype=dtype), accelerator.device)
    cfg = GRPOConfig(beta=0.0, learning_rate=1e-3, warmup_updates=0, deadline_s=120.0)
    return Learner(
        policy, cfg, accelerator, dtype=dtype, temperature=1.0, max_length=16, total_updates=10, seed=0, resume=resume
    )


def batches() -> tuple[Batch, Batch]:
    """Two rollouts of random tokens, of unequal lengths."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(2):
        lengths = rng.integers(4, 16, 6)
        made.append(
            Batch(
                [
                    Sample(
                        rng.integers(0, 400, 8),
                        rng.integers(0, 400, n),
                        float(rng.normal()),
                        np.full(n, -6.0, np.float32),
                    )
                    for n in lengths
                ]
            )
        )
    return made[0], made[1]


if __name__ == "__main__":
    end_with(os.getppid())
    main(sys.argv[1], Path(sys.argv[2]))

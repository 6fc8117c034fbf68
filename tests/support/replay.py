"""Learn from stored rollouts: run by the tests in one process, and under ``accelerate launch`` in several.

``python replay.py JOBS`` takes a JSON file with a list of jobs, in order; each leaves ``OUT.json``.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from r1rl.config import GRPOConfig, ModelConfig
from r1rl.distributed.processes import start
from r1rl.grpo.backend import places_weights
from r1rl.grpo.batch import make_batch
from r1rl.grpo.checkpoint import Checkpoints, RunState
from r1rl.grpo.learner import Learner
from r1rl.grpo.snapshot import read_groups
from r1rl.model.load import load_policy
from r1rl.rollout.engine import Request, complete
from r1rl.rollout.torch_engine import TorchEngine
from r1rl.types import Problem, SamplingParams


@dataclass
class Job:
    model: str
    rollouts: list[str]
    out: str
    grpo: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    first: int = 0
    """Index of the first rollout to learn from; the ones before are in the checkpoint of ``resume``."""
    resume: str = ""
    save_after: int = -1
    """Write a checkpoint into OUT-checkpoint after so many rollouts."""


def replay(job: Job, accelerator: Accelerator) -> dict[str, Any]:
    """Losses, gradient norms, final weights' checksum figures and an evaluation."""
    policy = load_policy(
        ModelConfig(path=job.model, **job.config), accelerator.device, mapped=places_weights(accelerator)
    )
    cfg = GRPOConfig(**job.grpo)
    checkpoints = Checkpoints(Path(job.out + "-checkpoint"), keep=9)
    state, folder = RunState(0, 0, "x"), None
    if job.resume:
        found = Checkpoints(Path(job.resume), keep=9).newest("x")
        assert found is not None
        state, folder = found
    learner = Learner(
        policy, cfg, accelerator, dtype=policy_dtype(job), temperature=1.0, max_length=64, total_updates=40, seed=3,
        resume=folder,
    )  # fmt: skip
    if folder is not None:
        learner.load(folder, state.learner)
    history = []
    for index in range(job.first, len(job.rollouts)):
        batch = make_batch(read_groups(Path(job.rollouts[index])), cfg.scale_rewards, cfg.mask_truncated)
        history.append(learner.update(batch))
        if index + 1 == job.save_after:
            new = RunState(index + 1, index + 1, "x", learner.state_dict(), learner.backend.ranks)
            checkpoints.save(new, learner.tensors(), write=accelerator.is_main_process)
    engine = TorchEngine(learner.backend.sampler(), 64)
    engine.sync(1)
    requests = [Request(Problem(str(i), tuple(range(5 + i, 12 + i)), ""), (1, 2)) for i in range(6)]
    sampled = complete(engine, requests, SamplingParams(max_new_tokens=24, temperature=0.7))
    weights = {name: w.double().cpu() for name, w in learner.backend.weights()}
    if accelerator.is_main_process:
        torch.save(weights, job.out + ".weights.pt")
    return {
        "history": history,
        "sampled": [[c.token_ids.tolist() for c in group] for group in sampled],
        "logps": [[c.logps.tolist() for c in group] for group in sampled],
        "progress": asdict(learner.counts),
    }


def policy_dtype(job: Job) -> str:
    return job.config.get("dtype", "float32")


def main() -> None:
    torch.set_num_threads(1)
    accelerator = start("cpu", 40.0)
    for row in json.loads(Path(sys.argv[1]).read_text()):
        result = replay(Job(**row), accelerator)
        if accelerator.is_main_process:
            Path(row["out"] + ".json").write_text(json.dumps(result))
        accelerator.wait_for_everyone()


if __name__ == "__main__":
    main()

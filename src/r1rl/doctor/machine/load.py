"""A learner and a sampler at the sizes of a real model, with random weights and random tokens."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator

from r1rl.config import RunConfig
from r1rl.distributed.processes import start
from r1rl.doctor.machine.device import device, on_gpu, random_policy, shape, synchronize, without_end, working_dtype
from r1rl.doctor.machine.findings import NotTried
from r1rl.doctor.memory import GIB, Part, estimate
from r1rl.grpo.batch import Batch, Sample
from r1rl.grpo.learner import Learner
from r1rl.model.load import Policy
from r1rl.rollout.engine import Request, complete
from r1rl.rollout.torch_engine import TorchEngine
from r1rl.types import Problem, SamplingParams

BUDGETS = {"cuda": (16_384, 8192, 4096, 2048), "cpu": (2048,)}
"""Tokens per micro-batch to choose from: the largest that fits is taken."""
PROMPT = 64
COMPLETION = {"cuda": 960, "cpu": 192}
GENERATED = {"cuda": 128, "cpu": 32}
"""Tokens per completion, when the sampler is timed."""
SEQUENCES = {"cuda": 256, "cpu": 32}
FITS = 0.85
"""Share of the device's free memory that the prediction may fill."""


@dataclass(slots=True)
class Load:
    """One model with its learner."""

    size: str
    config: RunConfig
    policy: Policy
    learner: Learner
    batch: Batch
    """Two full micro-batches."""


def configure(size: str) -> RunConfig:
    """The run's settings, with as many tokens per micro-batch as fit.

    Raises:
        NotTried: not even the smallest does.
    """
    kind = device().type
    free = free_bytes()
    for tokens in BUDGETS[kind]:
        config = RunConfig(
            model={"path": size, "dtype": working_dtype()},
            data={"train": {"x": {"path": "generated:arithmetic"}}, "prompt": {"max_tokens": PROMPT}},
            rollout={
                "engine": "torch",
                "prompts_per_step": 8,
                "group_size": SEQUENCES[kind] // 8,
                "max_new_tokens": COMPLETION[kind],
            },
            grpo={"beta": 0.0, "tokens_per_microbatch": tokens, "max_grad_norm": 1.0, "learning_rate": 1e-6},
        )
        if total(predicted(config, size)) <= FITS * free:
            return config
    wanted = total(predicted(config, size)) / FITS / GIB
    raise NotTried(f"{size} needs {wanted:.0f} GiB of memory; {free / GIB:.0f} GiB are free")


def free_bytes() -> int:
    """Free memory of the device."""
    import psutil

    return int(torch.cuda.mem_get_info()[0] if on_gpu() else psutil.virtual_memory().available)


def predicted(config: RunConfig, size: str) -> list[Part]:
    """What `r1rl doctor CONFIG` says of one process, without the libraries."""
    return estimate(config, shape(size), 1, 0, gpu_bytes=torch.cuda.mem_get_info()[1] if on_gpu() else 0.0)


def total(parts: list[Part]) -> float:
    return sum(part.bytes for part in parts)


def build(size: str, config: RunConfig, accelerator: Accelerator | None = None) -> Load:
    """The policy on the device, its learner, and a batch."""
    accelerator = accelerator or start("cuda" if on_gpu() else "cpu", 300.0)
    policy = without_end(random_policy(size))
    learner = Learner(
        policy, config.grpo, accelerator, dtype=config.model.dtype, temperature=1.0,
        max_length=config.rollout.max_new_tokens, total_updates=100, seed=0,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    completion = config.rollout.max_new_tokens
    count = 2 * max(1, config.grpo.tokens_per_microbatch // (PROMPT + completion))
    drawn = rng.integers(1, 500, (count, PROMPT + completion))
    logps = np.full(completion, -5.0, dtype=np.float32)
    samples = [Sample(ids[:PROMPT], ids[PROMPT:], float(rng.normal()), logps) for ids in drawn]
    return Load(size, config, policy, learner, Batch(samples))


def update_seconds(load: Load, updates: int) -> float:
    """Mean time of an update, after one to warm up."""
    load.learner.update(load.batch)
    synchronize()
    began = time.perf_counter()
    for _ in range(updates):
        load.learner.update(load.batch)
    synchronize()
    return (time.perf_counter() - began) / updates


def sample_seconds(load: Load) -> tuple[int, float]:
    """Tokens that one rollout of the embedded engine generates, and its time, after a short one to warm up."""
    kind = device().type
    engine = TorchEngine.of(load.config, load.policy)
    rng = np.random.default_rng(1)
    size = load.config.rollout.group_size
    requests = [
        Request(
            Problem(str(i), tuple(rng.integers(1, 500, PROMPT).tolist()), ""), tuple(range(i * size, (i + 1) * size))
        )
        for i in range(SEQUENCES[kind] // size)
    ]
    complete(engine, requests, SamplingParams(4))
    synchronize()
    began = time.perf_counter()
    groups = complete(engine, requests, SamplingParams(GENERATED[kind]))
    synchronize()
    return sum(len(c) for group in groups for c in group), time.perf_counter() - began

"""vLLM beside the learner: starts, serves what it is sent, gives memory back, and opens its weight group again."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import torch

from r1rl.config import RunConfig
from r1rl.config.model import ModelConfig
from r1rl.doctor.machine.device import change, device, gpus, on_gpu, random_policy, saved, working_dtype
from r1rl.doctor.machine.findings import Findings
from r1rl.doctor.machine.sync import SAMPLED, UPDATE, prompts, sampled_gap
from r1rl.doctor.memory import GIB
from r1rl.model.load import DTYPES, Policy, load_policy
from r1rl.rollout.engine import Engine, complete
from r1rl.types import SamplingParams

BUCKET_MB = 1
"""Size of a request, below that of the embeddings: the tensor that does not fit must travel too."""
WITHIN = 0.1
"""Largest mean |Δ log p| of sampled tokens in bfloat16, nats; a thousandth of it in float32."""


def colocated(found: Findings) -> None:
    """Starts in this process, is synced twice, samples; on a GPU it sleeps and wakes around each."""
    cfg, policy = _run({"mode": "colocate"})
    from r1rl.rollout.vllm.build import build

    began = time.perf_counter()
    with contextlib.closing(build(cfg, policy)) as engine:
        found.note("start, s", time.perf_counter() - began)
        for version in range(2):
            change(policy, UPDATE, version)
            began = time.perf_counter()
            engine.sync(version)
            found.note(f"sync {version}, s", time.perf_counter() - began)
            found.note(f"sync {version}: mean |Δ log p|, nats", engine.metrics()["rollout/sync_gap"])
            _served(found, engine, policy, f"version {version}")
        if on_gpu():
            _sleeps(found, engine, policy)


def nccl(found: Findings) -> None:
    """A server on a second GPU takes weights over NCCL; the group is closed and opened again by another server."""
    gpus(2, "a server beside the learner")
    from r1rl.rollout.vllm.build import build

    cfg, policy = _run({"mode": "server", "transfer": "nccl", "servers": 1, "gpu_memory_utilization": 0.5})
    for opened in ("opened", "reopened"):
        with contextlib.closing(build(cfg, policy)) as pool:
            for version in range(2):
                change(policy, UPDATE, version)
                began = time.perf_counter()
                pool.sync(version)
                found.note(f"{opened}, sync {version}, s", time.perf_counter() - began)
                _served(found, pool, policy, f"{opened}, version {version}")


def _run(vllm: dict[str, object]) -> tuple[RunConfig, Policy]:
    """Settings and policy of a run whose engine is vLLM."""
    model = saved(random_policy("6M"))
    settings = {"bucket_mb": BUCKET_MB, "kv_cache_gb": 1, **vllm}
    cfg = RunConfig(
        model=ModelConfig(path=str(model), dtype=working_dtype()),
        output_dir=str(Path(model).parent / "runs"),
        rollout={"engine": "vllm", "max_new_tokens": SAMPLED, "max_concurrent": 64, "vllm": settings},
    )
    return cfg, load_policy(cfg.model, device())


def _served(found: Findings, engine: Engine, policy: Policy, name: str) -> None:
    """What it samples is the learner's policy."""
    autocast = None if working_dtype() == "float32" else DTYPES[working_dtype()]
    gap, largest = sampled_gap(engine, policy, autocast)
    found.at_most(f"{name}: mismatch, mean nats", gap, WITHIN if autocast else WITHIN / 1000)
    found.note(f"{name}: largest", largest)
    began = time.perf_counter()
    groups = complete(engine, prompts(policy, 32), SamplingParams(SAMPLED))
    rate = sum(len(c) for group in groups for c in group) / (time.perf_counter() - began)
    found.note(f"{name}: sampler, tokens/s", rate)
    found.summary = f"mismatch {gap:.1e} nats, {rate:.0f} tokens/s"


def _sleeps(found: Findings, engine: Engine, policy: Policy) -> None:
    """Between two streams the memory that it holds is free for the learner."""
    torch.cuda.synchronize()
    asleep = torch.cuda.mem_get_info()[0]
    with contextlib.closing(engine.stream(prompts(policy, 8), SamplingParams(SAMPLED))) as stream:
        next(stream)
        awake = torch.cuda.mem_get_info()[0]
    found.at_least("memory that sleep gives back, GiB", (asleep - awake) / GIB, 0.5)
    found.at_least("memory given back again, share", torch.cuda.mem_get_info()[0] / asleep, 0.95)

"""Cores of one machine for a learner and launched servers that work at the same time.

OpenMP's threads wait by spinning: where two processes have more of them than there are cores, each waits for a thread
that the other keeps from running. On two cores asynchronous steps took 3 to 20 s with two threads each, and 1.8 s with
one each (docs/log.md).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

from r1rl.config import RunConfig


def cores() -> int:
    """Of this machine, as far as this process may use them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def server_threads(run: RunConfig, available: int) -> int | None:
    """Threads of one launched server on a CPU: what the configuration says, else half of the cores for all servers
    where learner and servers work at the same time. None leaves the choice to vLLM."""
    vllm = run.rollout.vllm
    if vllm.threads is not None or not together(run):
        return vllm.threads
    return max(1, available // 2 // vllm.servers)


def together(run: RunConfig) -> bool:
    """Whether this run's servers go on while the learner works, on cores that both use."""
    vllm = run.rollout.vllm
    return run.rollout.engine == "vllm" and vllm.mode == "server" and not vllm.urls and run.rollout.max_staleness > 0


@contextlib.contextmanager
def learner_threads(run: RunConfig, device: torch.device, available: int) -> Iterator[None]:
    """Within it, torch uses the cores that the servers leave; nothing changes where ``threads`` is configured, the
    learner is on a GPU or a launcher has given each of several processes its threads."""
    several = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1
    if not together(run) or device.type != "cpu" or run.threads or several:
        yield
        return
    before = torch.get_num_threads()
    taken = (server_threads(run, available) or 1) * run.rollout.vllm.servers
    torch.set_num_threads(max(1, min(before, available - taken)))
    try:
        yield
    finally:
        torch.set_num_threads(before)

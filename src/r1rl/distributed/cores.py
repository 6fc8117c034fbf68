"""Cores of one machine for a learner and launched servers that work at the same time.

OpenMP's threads wait by spinning: where two processes have more of them than there are cores, each waits for a thread
that the other prevents from running. On two cores asynchronous steps took 3 to 20 s with two threads each, and 1.8 s
with one each (docs/log.md).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from r1rl.config import RunConfig

CGROUPS, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def cores() -> int:
    """The cores that this process may use: its affinity, and its container's share of processor time."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = quota(CGROUPS, OWN_CGROUP)
    return allowed if share is None else max(1, min(allowed, int(share)))


def quota(mounted: Path, own: Path) -> float | None:
    """Processor time, in cores, that the control groups of this process may use; None without a limit.

    Args:
        mounted: where control groups are mounted, version 2 or 1.
        own: names this process's group; those above it limit it too.
    """
    try:
        names = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        names = []
    found = []
    for controllers, name in [("cpu", "/"), *((kinds, name) for _, kinds, name in names)]:
        if controllers and "cpu" not in controllers.split(","):
            continue
        inner = Path(name.lstrip("/"))
        for folder in (inner, *inner.parents):
            found += [_limit_2(mounted / folder), _limit_1(mounted / "cpu" / folder)]
    return min((limit for limit in found if limit is not None), default=None)


def _limit_2(folder: Path) -> float | None:
    try:
        most, period = (folder / "cpu.max").read_text().split()
        return None if most == "max" else int(most) / int(period)
    except (OSError, ValueError):
        return None


def _limit_1(folder: Path) -> float | None:
    try:
        most, period = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return most / period if most > 0 else None
    except (OSError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class Threads:
    """Threads for torch's operations on the CPU, and the reason."""

    count: int
    why: str


def choose_threads(configured: int | None, environment: Mapping[str, str], default: int, available: int) -> Threads:
    """Threads of this process.

    Args:
        configured: ``threads`` of the configuration; it wins.
        environment: ``OMP_NUM_THREADS`` comes next; ``LOCAL_WORLD_SIZE`` processes share the machine.
        default: torch's own choice, which ignores containers and other ranks.
        available: cores of this machine for all of them.
    """
    if configured is not None:
        return Threads(configured, "threads in the configuration")
    if environment.get("OMP_NUM_THREADS"):
        return Threads(default, "OMP_NUM_THREADS")
    ranks = int(environment.get("LOCAL_WORLD_SIZE") or 1)
    shared = f", shared by {ranks} processes" if ranks > 1 else ""
    plural = "core" if available == 1 else "cores"
    return Threads(max(1, min(default, available // ranks)), f"{available} {plural} to use{shared}")


def server_threads(run: RunConfig, available: int) -> int | None:
    """Threads of one launched server on a CPU: as configured, else half of the cores for all servers together where
    learner and servers work at the same time. None leaves the choice to vLLM."""
    vllm = run.rollout.vllm
    if vllm.threads is not None or not together(run):
        return vllm.threads
    return max(1, available // 2 // vllm.servers)


def together(run: RunConfig) -> bool:
    """Whether this run's servers keep working while the learner does, on cores that both use."""
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

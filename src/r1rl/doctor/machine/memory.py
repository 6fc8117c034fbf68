"""The predicted peak of memory against the measured one."""

from __future__ import annotations

from pathlib import Path

import torch

from r1rl.distributed.processes import start
from r1rl.doctor.machine.device import on_gpu
from r1rl.doctor.machine.findings import Findings, NotTried
from r1rl.doctor.machine.load import build, configure, predicted, total
from r1rl.doctor.memory import GIB

WITHIN = 0.15
"""Largest relative difference."""
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak(found: Findings) -> None:
    """Two updates of full micro-batches. On a GPU the allocator's peak; on a CPU that of resident memory, minus what
    was resident after all imports."""
    if not on_gpu() and not RESET.exists():
        raise NotTried("peaks of resident memory are read from /proc, which only Linux has")
    size = "0.5B" if on_gpu() else "6M"
    config = configure(size)
    accelerator = start("cuda" if on_gpu() else "cpu", 300.0)
    before = _begin()
    load = build(size, config, accelerator)
    for _ in range(2):
        load.learner.update(load.batch)
    measured = _peak() - before
    parts = predicted(config, size)
    found.note("model", size)
    found.note("tokens per micro-batch", config.grpo.tokens_per_microbatch)
    found.note("measured, GiB", measured / GIB)
    found.note("predicted, GiB", total(parts) / GIB)
    for part in parts:
        if part.bytes:
            found.note(f"of that {part.name}, GiB", part.bytes / GIB)
    difference = total(parts) / measured - 1
    found.note("difference", difference)
    found.summary = f"predicted {total(parts) / GIB:.2f} GiB, measured {measured / GIB:.2f} ({difference:+.1%})"
    found.at_most("difference, absolute", abs(difference), WITHIN)


def _begin() -> float:
    """Allocates what torch allocates once, resets the peak, and returns what is in use."""
    if on_gpu():
        torch.cuda.reset_peak_memory_stats()
        return float(torch.cuda.memory_allocated())
    x = torch.ones(64, 64, requires_grad=True)
    (x @ x).sum().backward()
    RESET.write_text("5")
    return _resident("VmRSS")


def _peak() -> float:
    return float(torch.cuda.max_memory_allocated()) if on_gpu() else _resident("VmHWM")


def _resident(name: str) -> float:
    """A line of the process's status, bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return 1024 * float(line.split()[1])

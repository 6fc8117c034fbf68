"""Programs per second in sandboxes, on two cores, and where the rest of the time goes:

    python -m benchmarks.programs [--count N] [--milliseconds MS]

Every program computes for so many milliseconds of processor time. ``bare`` runs it in a plain interpreter, without any
isolation: what the sandboxes are compared with in the same run, as other work on the machine slows both alike. The
ways alternate over the rounds; shown are medians. CPU time is that of all processes, per program; two cores divided by
it is the rate of an idle machine.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from r1rl.programs.isolation import PYTHON, Bubblewrap, Isolation, Namespaces
from r1rl.programs.pool import SandboxPool
from r1rl.programs.roots import Roots
from r1rl.programs.types import Program, ProgramLimits

CORES = 2
ROUNDS = 3
BUSY = "import time\nwhile time.process_time() < START + {seconds}:\n    pass\nprint('done')"
LIMITS = ProgramLimits(cpu_s=60, wall_s=600)
Run = Callable[[str], str]


@dataclass
class Figures:
    """Of one way and one kind of program, one item per round: seconds per program."""

    wall: list[float]
    inside: list[float]
    """CPU time of the processes that were started."""
    outside: list[float]
    """CPU time of this process."""


def main() -> None:
    """Measure and print one line per way and kind of program."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--count", type=int, default=100, help="programs per round")
    arguments.add_argument("--milliseconds", type=float, default=10.0, help="CPU time of each program")
    given = arguments.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    busy = "import time\nSTART = time.process_time()\n" + BUSY.format(seconds=given.milliseconds / 1000)
    kinds = {"empty": "print('done')", f"{given.milliseconds:g} ms": busy}
    roots = Roots()
    pools = [SandboxPool(CORES, LIMITS, way) for way in (Bubblewrap(), Namespaces(roots.interpreter)) if works(way)]
    ways: dict[str, Run] = {"bare": Bare(roots.interpreter).run}
    ways |= {pool.isolation.name: Pooled(pool).run for pool in pools}
    found = {(way, kind): Figures([], [], []) for way in ways for kind in kinds}
    for _ in range(ROUNDS):
        for way, run in ways.items():
            for kind, source in kinds.items():
                measure(run, source, given.count, found[way, kind])
    for pool in pools:
        pool.close()
    report(found, given.count)


def works(way: Isolation) -> bool:
    """Whether programs can be isolated this way."""
    missing = way.missing()
    if missing:
        print(f"{way.name}: {missing}")
    return not missing


class Bare:
    """Plain interpreters."""

    def __init__(self, interpreter: str) -> None:
        self._command = [interpreter, *PYTHON, "-"]

    def run(self, source: str) -> str:
        return subprocess.run(self._command, input=source, capture_output=True, text=True, check=True).stdout


class Pooled:
    """Sandboxes of a pool."""

    def __init__(self, pool: SandboxPool) -> None:
        self._pool = pool

    def run(self, source: str) -> str:
        return self._pool.run(Program(source)).stdout


def measure(run: Run, source: str, count: int, figures: Figures) -> None:
    """Run so many programs, as many side by side as there are cores."""
    with ThreadPoolExecutor(CORES) as threads:
        list(threads.map(run, [source] * CORES * 2))
        start = time.monotonic(), used(resource.RUSAGE_CHILDREN), used(resource.RUSAGE_SELF)
        if any(output != "done\n" for output in threads.map(run, [source] * count)):
            sys.exit("a program did not end well")
        end = time.monotonic(), used(resource.RUSAGE_CHILDREN), used(resource.RUSAGE_SELF)
    for values, before, after in zip((figures.wall, figures.inside, figures.outside), start, end, strict=True):
        values.append((after - before) / count)


def used(whose: int) -> float:
    """CPU time so far, in seconds."""
    usage = resource.getrusage(whose)
    return usage.ru_utime + usage.ru_stime


def report(found: dict[tuple[str, str], Figures], count: int) -> None:
    """One line per way and kind."""
    load = os.getloadavg()[0]
    print(f"{ROUNDS} rounds of {count} programs, {CORES} at a time on {CORES} cores, load average {load:.1f}")
    print(f"{'':27} {'per second':>10} {'relative':>8} {'CPU ms':>7} {'started':>8} {'pool':>6} {'idle machine':>12}")
    for (way, kind), figures in found.items():
        wall, inside, outside = (statistics.median(v) for v in (figures.wall, figures.inside, figures.outside))
        relative = statistics.median(found["bare", kind].wall) / wall
        print(
            f"{way:17} {kind:>9} {1 / wall:10.1f} {relative:8.2f} {1000 * (inside + outside):7.1f} "
            f"{1000 * inside:8.1f} {1000 * outside:6.1f} {CORES / (inside + outside):12.1f}"
        )


if __name__ == "__main__":
    main()

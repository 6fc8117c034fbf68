"""No answer hangs, crashes, fills memory, runs or passes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from r1rl.verify import Checker, Limits, Outcome
from tests.support.hostile import HOSTILE

LIMITS = Limits(cpu_s=1.0, wall_s=60.0, memory_mb=1024)
MARKER = Path("/tmp/r1rl-hostile")


class Watch:
    """The most resident memory any worker has had, in MB, sampled every few milliseconds."""

    def __init__(self, checker: Checker) -> None:
        self.peak_mb = 0.0
        self._host = psutil.Process(checker.sandbox.host_pid())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._stop.wait(0.005):
            for worker in self._host.children():
                try:
                    self.peak_mb = max(self.peak_mb, worker.memory_info().rss / 2**20)
                except psutil.NoSuchProcess:
                    continue

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        yield
        self._stop.set()
        self._thread.join(5)


def test_there_are_enough_of_them() -> None:
    assert len(HOSTILE) >= 100


def test_every_hostile_answer_meets_its_bounds() -> None:
    MARKER.unlink(missing_ok=True)
    with Checker(workers=1, limits=LIMITS) as checker:
        assert checker.equivalent("x+1", "1+x")
        watch, slowest, taken, outcomes = Watch(checker), 0.0, [], set()
        with watch.running():
            for name, (gold, answer) in HOSTILE.items():
                started = time.monotonic()
                verdict = checker.equivalent(gold, answer)
                seconds = time.monotonic() - started
                slowest = max(slowest, seconds)
                outcomes.add(verdict.outcome)
                if verdict or verdict.path in ("wall", "forbidden"):
                    taken.append((name, verdict, seconds))
        assert not taken
        assert outcomes >= {Outcome.WRONG, Outcome.UNPARSABLE, Outcome.TIMEOUT}
        assert watch.peak_mb <= LIMITS.memory_mb + 100
        assert checker.equivalent("x^2+2x+1", "(x+1)^2")
        assert not checker.equivalent("x^2+2x+1", "(x+2)^2")
    assert not MARKER.exists()
    print(f"{len(HOSTILE)} hostile answers, slowest {slowest:.2f} s, peak {watch.peak_mb:.0f} MB")


@pytest.mark.parametrize("name", [name for name, (_, answer) in HOSTILE.items() if len(answer) <= 300])
def test_nothing_hostile_passes_as_part_of_a_structure(name: str, checker: Checker) -> None:
    gold, answer = HOSTILE[name]
    assert not checker.equivalent(f"({gold}, 3)", f"({answer}, 3)")

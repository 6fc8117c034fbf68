"""A training run between two steps: its parts, and plain state that a checkpoint stores."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from r1rl.data.problems import ProblemSets
from r1rl.grpo.batch import Rollout
from r1rl.grpo.experience import Experience
from r1rl.grpo.learner import Learner, Metrics
from r1rl.grpo.resume import SavedRun
from r1rl.rollout.engine import Engine
from r1rl.scoring import Scorer
from r1rl.tracking import Progress, Tracker


@dataclass(slots=True)
class Run:
    """What :meth:`GRPOTrainer.train_step` works with and updates.

    Another engine, another way to collect experience or another tracker is another object here, never a branch in the
    step.
    """

    experience: Experience
    learner: Learner
    engine: Engine
    scorer: Scorer
    tracker: Tracker
    progress: Progress
    saved: SavedRun
    held_out: ProblemSets
    """Evaluated while training; the same problems every time."""
    step: int
    """Finished steps."""
    version: int
    """Of the policy that the engine samples from; incremented after each step."""
    rollout: Rollout | None = None
    """The rollout being learned from. A checkpoint of an interrupted step stores it, and the resumed step starts with
    it."""
    metrics: Metrics = field(default_factory=dict)
    """Of the last step."""
    opening: Metrics = field(default_factory=dict)
    """About the run as a whole; logged with its first step."""

    @property
    def longest(self) -> int:
        """Tokens of the longest sample being learned from; 0 outside an update."""
        return max((len(sample) for sample in self.rollout.batch.samples), default=0) if self.rollout else 0

    def save(self, score: float | None = None) -> Path:
        """Write a checkpoint of the run's current state, see :meth:`SavedRun.save`."""
        return self.saved.save(self.step, self.version, self.learner, self.rollout, score)


class Stopwatch:
    """Seconds of a step's phases, one after the other.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.begin = self.last = clock()
        self.laps: Metrics = {}

    def lap(self, phase: str) -> None:
        """End ``phase``, which began with the stopwatch or where the phase before it ended."""
        now = self.clock()
        self.laps[f"time/{phase}"], self.last = now - self.last, now

    def metrics(self) -> Metrics:
        """``time/PHASE`` of every phase, and their sum as ``time/step``."""
        return self.laps | {"time/step": self.last - self.begin}

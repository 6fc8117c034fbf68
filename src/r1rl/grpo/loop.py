"""The training loop: it reads like the algorithm."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from r1rl.config.grpo import GRPOConfig
from r1rl.errors import TrainingError
from r1rl.grpo import guards
from r1rl.grpo.batch import Batch, make_batch
from r1rl.grpo.experience import Experience, check_gathered
from r1rl.grpo.learner import Learner
from r1rl.grpo.metrics import over_ranks, rollout_metrics, sample_rows
from r1rl.rollout.engine import Engine
from r1rl.scoring.metrics import Measured, call_metrics
from r1rl.tracking import Tracker
from r1rl.types import ScoredGroup

log = logging.getLogger(__name__)

Metrics = dict[str, float]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rollout:
    """What a step learns from, in both its forms."""

    groups: list[ScoredGroup]
    batch: Batch


@dataclass(slots=True)
class Loop:
    """Problem → group → scores → advantages → packed batch → update → sync, until the last step.

    The parts are objects with one method each; another engine, another way to collect or another tracker is another
    object, never a branch here.
    """

    cfg: GRPOConfig
    experience: Experience
    learner: Learner
    engine: Engine
    tracker: Tracker
    samples_per_step: int
    evaluate: Callable[[int], tuple[Metrics, list[dict[str, Any]]]]
    """Held-out metrics of the policy as it is, and completions for samples.jsonl: of the same problems every time.
    Given the number of finished steps."""
    save: Callable[[int, int, Metrics], Path]
    """Writes a checkpoint, given the number of finished steps, the policy version and the last step's metrics; returns
    where it is."""
    drain: Callable[[], Measured]
    """What this process's scorer measured since the last step."""
    step: int = 0
    version: int = 0
    rollout: Rollout | None = None
    """The rollout being learned from: where a step is interrupted, its checkpoint takes it along."""
    opening: Metrics = field(default_factory=dict)
    """About the run as a whole; logged with its first step."""
    clock: Callable[[], float] = time.perf_counter
    _times: Metrics = field(default_factory=dict)

    def train_step(self) -> Metrics:
        """One step of the algorithm; returns its metrics.

        Raises:
            TrainingError: it crossed a bound of ``guards`` and ``guards.action`` is stop; raised on every rank, once
                the step is logged and saved.
        """
        begin = self.clock()
        rollout = self.rollout = self.rollout or self._timed("rollout", self._collect)
        learned = self._timed("update", lambda: self.learner.update(rollout.batch))
        self.rollout = None
        self.version += 1
        self._timed("sync", lambda: self.engine.sync(self.version))
        self.step += 1
        return self._finish(rollout.groups, learned, self.clock() - begin)

    def _collect(self) -> Rollout:
        groups = self.experience.collect(self.step)
        check_gathered(groups)
        batch = make_batch(groups, self.cfg.scale_rewards, self.cfg.mask_truncated)
        if not batch.samples and self.learner.backend.rank == 0:
            log.warning("step %d: no reward function applied to any completion: nothing to learn from", self.step + 1)
        return Rollout(groups, batch)

    def _finish(self, groups: list[ScoredGroup], learned: Metrics, seconds: float) -> Metrics:
        own = self.engine.metrics() | self._times | {"time/step": seconds}
        everywhere = self.learner.backend.gather([(self.drain(), own)])
        metrics = call_metrics([measured for measured, _ in everywhere]) | over_ranks([own for _, own in everywhere])
        metrics |= rollout_metrics(groups) | learned | self.experience.metrics() | self.opening
        self.opening = {}
        metrics["rollout/completions_per_s"] = metrics["rollout/completions"] / metrics["time/step"]
        metrics["policy/version"] = float(self.version)
        crossed = guards.crossings(self.cfg.guards, self.step, metrics)
        metrics["policy/guards_crossed"] = float(len(crossed))
        rows = sample_rows(groups, self.samples_per_step)
        if self._due(self.cfg.eval_every):
            held_out, shown = self.evaluate(self.step)
            metrics |= held_out
            rows += shown
        # Logged before the checkpoint: a run killed between the two repeats the step and its line, and loses neither.
        self.tracker.log(self.step, metrics)
        self.tracker.samples(self.step, rows)
        stop = bool(crossed) and self.cfg.guards.action == "stop"
        if stop or self._due(self.cfg.checkpoint_every) or self.step == self.cfg.steps:
            saved = self.save(self.step, self.version, metrics)
            if stop:
                raise TrainingError(
                    f"{' | '.join(crossed)}. The run stopped there, as grpo.guards.action says; this step is in "
                    f"metrics.jsonl and samples.jsonl, and saved in {saved}: the same command goes on from it"
                )
        for message in crossed if self.learner.backend.rank == 0 else ():  # the same on every rank
            log.warning(message)
        return metrics

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _timed(self, name: str, work: Callable[[], T]) -> T:
        begin = self.clock()
        result = work()
        self._times[f"time/{name}"] = self.clock() - begin
        return result

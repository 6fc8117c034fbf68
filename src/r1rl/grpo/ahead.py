"""Asynchronous runs: the engine samples for the coming steps while the learner updates."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
from accelerate import Accelerator

from r1rl.distributed.interrupt import Interrupt
from r1rl.errors import EngineError
from r1rl.grpo.experience import Place, PlainExperience, Quota, StepPrompts, Useful, any_group, is_fresh
from r1rl.rollout.collect import Rollouts
from r1rl.scoring import Scorer
from r1rl.types import Completion, Group, Problem, ScoredGroup

Arrival = tuple[Place, Group | BaseException]
"""A finished group, or the reason why its step yields no more."""


class AheadExperience(PlainExperience):
    """Requests the problems of up to ``staleness`` further steps before the current one is learned from.

    Step s is requested when step s − staleness is collected, so its samples start at most that many steps behind
    the policy that learns from them. Weights are swapped while completions run; each token carries the version
    that sampled it. Samples that are older than that are dropped and counted. Groups that a step did not
    wait for (dynamic sampling with over-sampling) keep running and are offered to the next one.

    Args:
        steps: of the run; nothing is requested beyond them.
        deadline_s: longest wait for a step's samples.
    """

    def __init__(
        self,
        prompts: StepPrompts,
        rollouts: Rollouts,
        scorer: Scorer,
        accelerator: Accelerator,
        interrupt: Interrupt,
        *,
        staleness: int,
        steps: int,
        deadline_s: float,
    ) -> None:
        super().__init__(prompts, rollouts, scorer, accelerator, interrupt)
        self.staleness, self.steps, self.deadline_s = staleness, steps, deadline_s
        self._asked = 0
        """The first step that was not requested yet."""
        self._missing: dict[int, int] = {}
        """Groups of each step that were requested and not taken yet."""
        self._arrivals: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        self._early: list[Arrival] = []
        """Groups that arrived for a step that is not due yet."""
        self._metrics: dict[str, float] = {}

    def metrics(self) -> dict[str, float]:
        return self._metrics

    def sample(
        self,
        step: int,
        round: int,
        problems: Sequence[Problem],
        wanted: int | None = None,
        useful: Useful = any_group,
    ) -> list[ScoredGroup]:
        """The step's own problems come from what was requested ahead; further rounds are sampled now."""
        groups = super().sample(step, round, problems, wanted, useful)
        if round:
            return groups
        fresh = self.fresh(groups)
        self._metrics = staleness([c for g in fresh for c in g.group.completions], self.rollouts.engine.version)
        self._metrics["rollout/dropped_stale"] = float(len(groups) - len(fresh))
        return fresh

    def fill(self, quota: Quota, step: int, round: int, mine: Sequence[tuple[int, Problem]]) -> None:
        """Request what is due, and take the groups of this step as they arrive."""
        if round:
            super().fill(quota, step, round, mine)
            return
        for later in range(max(step, self._asked), min(step + self.staleness + 1, self.steps)):
            self._ask(later, mine if later == step else self.share(self.prompts.first(later)))
        if quota.full:
            return
        for place, group in self._due(step):
            if quota.take(place, group):
                break

    def oldest(self) -> int:
        return self.rollouts.engine.version - self.staleness

    def fresh(self, groups: Sequence[ScoredGroup]) -> list[ScoredGroup]:
        """Those that are not too old."""
        oldest = self.oldest()
        return [g for g in groups if is_fresh(g.group, oldest)]

    def _ask(self, step: int, mine: Sequence[tuple[int, Problem]]) -> None:
        """Have a step's problems sampled in the background."""
        self._missing[step] = len(mine)
        self._asked = step + 1
        threading.Thread(
            target=self._sample_ahead, args=(step, mine), name=f"samples-of-step-{step}", daemon=True
        ).start()

    def _sample_ahead(self, step: int, mine: Sequence[tuple[int, Problem]]) -> None:
        try:
            for index, group in self.rollouts.stream(mine, step, 0):
                self.interrupt.check()
                self.scorer.submit(group)
                self._arrivals.put(((step, index), group))
        except BaseException as error:  # raised again where the step is collected
            self._arrivals.put(((step, 0), error))

    def _due(self, step: int) -> Iterator[tuple[Place, Group]]:
        """Groups of this step, and of earlier ones that were not waited for, as they arrive."""
        until = time.monotonic() + self.deadline_s
        due, self._early = self._early, []
        try:
            while any(self._missing[at] for at in self._missing if at <= step):
                place, item = due.pop(0) if due else self._arrival(step, until)
                if place[0] > step:
                    self._early.append((place, item))
                    continue
                if isinstance(item, BaseException):
                    raise item
                self._missing[place[0]] -= 1
                yield place, item
        finally:
            self._early += due
            self._missing = {at: count for at, count in self._missing.items() if count}

    def _arrival(self, step: int, until: float) -> Arrival:
        try:
            return self._arrivals.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise EngineError(
                f"rank {self.accelerator.process_index}: the samples of step {step} did not arrive within "
                f"{self.deadline_s:g} s (grpo.deadline_s)"
            ) from None


def staleness(completions: Sequence[Completion], version: int) -> dict[str, float]:
    """Age of the tokens, in steps, and the number of completions during which the weights changed."""
    ages = [
        version - (c.versions if c.versions is not None else np.full(len(c), c.version)) for c in completions if len(c)
    ]
    if not ages:
        return {}
    ages_T = np.concatenate(ages)
    values, counts = np.unique(ages_T, return_counts=True)
    return {
        "rollout/staleness_mean": float(ages_T.mean()),
        "rollout/staleness_max": float(ages_T.max()),
        "rollout/mixed_versions": float(np.mean([c.versions is not None for c in completions])),
        **{f"rollout/staleness/{age}": float(n / len(ages_T)) for age, n in zip(values, counts, strict=True)},
    }

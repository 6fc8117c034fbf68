"""Asynchronous runs: the engine samples for the coming steps while the learner updates."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
from accelerate import Accelerator

from r1rl.data.stream import PromptStream
from r1rl.errors import EngineError
from r1rl.grpo.experience import Draw, Place, PlainExperience, Quota, Useful, any_group
from r1rl.rollout.collect import Rollouts
from r1rl.scoring import Scorer
from r1rl.types import Completion, Group, Problem, ScoredGroup

Arrival = tuple[Place, Group | BaseException]
"""A finished group, or why its step brings no more."""


class AheadExperience(PlainExperience):
    """Asks for the problems of up to ``staleness`` further steps before the current one is learned from.

    Step s is asked for when step s − staleness is collected, so its samples start at most that many updates behind
    the policy that learns from them. Weights are swapped under running completions; each token carries the version
    that sampled it. What is older nevertheless is dropped and counted. Groups that a step did not wait for (dynamic
    sampling with over-sampling) run on and are offered to the next one.

    Args:
        version: the policy's, in updates.
        steps: of the run; nothing is asked for beyond them.
        deadline_s: longest wait for a step's samples.
    """

    def __init__(
        self,
        stream: PromptStream,
        rollouts: Rollouts,
        scorer: Scorer,
        accelerator: Accelerator,
        prompts: int,
        *,
        staleness: int,
        version: Callable[[], int],
        steps: int,
        deadline_s: float,
    ) -> None:
        super().__init__(stream, rollouts, scorer, accelerator, prompts)
        self.staleness, self.version, self.steps, self.deadline_s = staleness, version, steps, deadline_s
        self._asked = 0
        """The first step that nothing was asked for yet."""
        self._missing: dict[int, int] = {}
        """Groups of each step that were asked for and not taken."""
        self._arrivals: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        self._early: list[Arrival] = []
        """Arrived for a step that is not due."""
        self._metrics: dict[str, float] = {}

    def metrics(self) -> dict[str, float]:
        return self._metrics

    def sample(
        self,
        draw: Draw,
        step: int,
        round: int = 0,
        wanted: int | None = None,
        useful: Useful = any_group,
    ) -> list[ScoredGroup]:
        """The step's own problems come from what was asked for ahead; further rounds are sampled now."""
        if round:
            return super().sample(draw, step, round, wanted, useful)
        for ahead in range(max(step, self._asked), min(step + self.staleness + 1, self.steps)):
            self._ask(ahead, self.share(draw(ahead)))
            self._asked = ahead + 1
        quota = self.quota(step, wanted, lambda group: useful(group) and bool(self.fresh([group])))
        groups = self.gather(quota, lambda: self._take(step, quota))
        fresh = self.fresh(groups)
        self._metrics = staleness([c for g in fresh for c in g.group.completions], self.version())
        self._metrics["rollout/dropped_stale"] = float(len(groups) - len(fresh))
        return fresh

    def fresh(self, groups: Sequence[ScoredGroup]) -> list[ScoredGroup]:
        """Those that are not too old."""
        version = self.version()
        return [g for g in groups if age(g.group, version) <= self.staleness]

    def _ask(self, step: int, mine: Sequence[tuple[int, Problem]]) -> None:
        self._missing[step] = len(mine)

        def work() -> None:
            try:
                self.rollouts.collect(mine, step, 0, lambda i, group: self._arrivals.put(((step, i), group)))
            except BaseException as error:  # raised again where the step is collected
                self._arrivals.put(((step, 0), error))

        threading.Thread(target=work, name=f"samples-of-step-{step}", daemon=True).start()

    def _take(self, step: int, quota: Quota) -> None:
        """Groups of this step, and of those before it that were not waited for, as they come."""
        until = time.monotonic() + self.deadline_s
        due, self._early = self._early, []
        while not quota.full and any(n for at, n in self._missing.items() if at <= step):
            place, item = due.pop(0) if due else self._arrival(step, until)
            if place[0] > step:
                self._early.append((place, item))
                continue
            if isinstance(item, BaseException):
                raise item
            self._missing[place[0]] -= 1
            quota.take(place, item)
        self._early += due
        self._missing = {at: n for at, n in self._missing.items() if n}

    def _arrival(self, step: int, until: float) -> Arrival:
        try:
            return self._arrivals.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise EngineError(
                f"rank {self.accelerator.process_index}: the samples of step {step} did not come within "
                f"{self.deadline_s:g} s (grpo.deadline_s)"
            ) from None


def age(group: Group, version: int) -> int:
    """Updates since the oldest completion of a group was begun."""
    return max((version - c.version for c in group.completions), default=0)


def staleness(completions: Sequence[Completion], version: int) -> dict[str, float]:
    """How old the tokens are, in updates; and how many completions saw the weights change."""
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

"""Asynchronous runs: the engine samples for the coming steps while the learner updates."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout

import numpy as np
from accelerate import Accelerator

from r1rl.data.stream import PromptStream
from r1rl.errors import EngineError
from r1rl.grpo.experience import PlainExperience
from r1rl.rollout.collect import Rollouts
from r1rl.scoring import Scorer
from r1rl.types import Completion, Group, Problem, ScoredGroup


class AheadExperience(PlainExperience):
    """Asks for the problems of up to ``staleness`` further steps before the current one is learned from.

    Step s is asked for when step s − staleness is collected, so its samples start at most that many updates behind
    the policy that learns from them. Weights are swapped under running completions; each token carries the version
    that sampled it. What is older nevertheless is dropped and counted.

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
        self._coming: dict[int, Future[list[Group]]] = {}
        self._metrics: dict[str, float] = {}

    def metrics(self) -> dict[str, float]:
        return self._metrics

    def sample(self, problems: Sequence[Problem], step: int, round: int = 0) -> list[ScoredGroup]:
        """The step's own problems come from what was asked for ahead; further rounds are sampled now."""
        if round:
            return super().sample(problems, step, round)
        for ahead in range(step, min(step + self.staleness + 1, self.steps)):
            if ahead not in self._coming:
                self._ask(ahead)
        groups = self.score(self.share(problems), lambda: self._take(step), step)
        version = self.version()
        fresh = [g for g in groups if age(g.group, version) <= self.staleness]
        self._metrics = staleness([c for g in fresh for c in g.group.completions], version)
        self._metrics["rollout/dropped_stale"] = float(len(groups) - len(fresh))
        return fresh

    def _ask(self, step: int) -> None:
        coming: Future[list[Group]] = Future()
        mine = self.share(self.stream.batch(step, self.prompts))

        def work() -> None:
            try:
                coming.set_result(self.rollouts.collect(mine, step))
            except BaseException as error:  # raised again where the step is collected
                coming.set_exception(error)

        self._coming[step] = coming
        threading.Thread(target=work, name=f"samples-of-step-{step}", daemon=True).start()

    def _take(self, step: int) -> list[Group]:
        try:
            return self._coming.pop(step).result(self.deadline_s)
        except FutureTimeout:
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

"""What a step learns from: problems sampled, scored and gathered from every process."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object

from r1rl.config.rollout import DynamicSamplingConfig
from r1rl.data.stream import PromptStream
from r1rl.distributed.interrupt import Interrupted
from r1rl.errors import TrainingError
from r1rl.rollout.collect import Rollouts
from r1rl.scoring import Scorer
from r1rl.scoring.metrics import reward_metrics
from r1rl.types import Group, Problem, ScoredGroup


class Experience(Protocol):
    """Source of the groups of each step."""

    def collect(self, step: int) -> list[ScoredGroup]:
        """The step's scored groups, the same list in the same order on every process."""

    def metrics(self) -> dict[str, float]:
        """About the last collection."""


Place = tuple[int, int]
"""Step and index of a group; what every process sorts by."""

Draw = Callable[[int], list[Problem]]
"""The problems that a step begins with."""

Useful = Callable[[ScoredGroup], bool]
"""Whether a group counts among those that are wanted."""


def any_group(group: ScoredGroup) -> bool:
    del group
    return True


class Quota:
    """Takes groups as they finish, and knows when enough of them are useful.

    Args:
        score: waits for the rewards of groups.
        wanted: useful groups, after which no further ones are taken; None takes all.
    """

    def __init__(
        self,
        score: Callable[[list[Group]], list[ScoredGroup]],
        wanted: int | None = None,
        useful: Useful = any_group,
    ) -> None:
        self.score, self.wanted, self.useful = score, wanted, useful
        self._found = 0
        self._waiting: list[tuple[Place, Group]] = []
        self._scored: list[tuple[Place, ScoredGroup]] = []

    @property
    def full(self) -> bool:
        return self.wanted is not None and self._found >= self.wanted

    def take(self, place: Place, group: Group) -> bool:
        """Take a finished group; True when there are enough.

        Rewards are waited for only where they could complete the number. Until then scoring goes on beside sampling.
        """
        self._waiting.append((place, group))
        if self.wanted is not None and self._found + len(self._waiting) >= self.wanted:
            self._finish()
        return self.full

    def scored(self) -> list[tuple[Place, ScoredGroup]]:
        """All that were taken."""
        self._finish()
        return self._scored

    def _finish(self) -> None:
        waiting, self._waiting = self._waiting, []
        new = self.score([group for _, group in waiting])
        self._scored += [(place, group) for (place, _), group in zip(waiting, new, strict=True)]
        self._found += sum(self.useful(group) for group in new)


class PlainExperience:
    """Every problem of the step once."""

    def __init__(
        self, stream: PromptStream, rollouts: Rollouts, scorer: Scorer, accelerator: Accelerator, prompts: int
    ) -> None:
        self.stream, self.rollouts, self.scorer = stream, rollouts, scorer
        self.accelerator, self.prompts = accelerator, prompts

    def collect(self, step: int) -> list[ScoredGroup]:
        return self.sample(lambda at: self.stream.batch(at, self.prompts), step)

    def metrics(self) -> dict[str, float]:
        return {}

    def sample(
        self,
        draw: Draw,
        step: int,
        round: int = 0,
        wanted: int | None = None,
        useful: Useful = any_group,
    ) -> list[ScoredGroup]:
        """Sample and score problems, shared among the processes by turns; a group stays whole on one of them.

        Args:
            draw: what to sample, by the step.
            wanted: stop at so many useful groups over all processes, each of which looks for its share; None
                waits for all.
        """
        mine, quota = self.share(draw(step)), self.quota(step, wanted, useful)

        def collect() -> None:
            if not quota.full:
                self.rollouts.collect(mine, step, round, lambda index, group: quota.take((step, index), group))

        return self.gather(quota, collect)

    def fresh(self, groups: Sequence[ScoredGroup]) -> list[ScoredGroup]:
        """Those of an earlier step that may still be learned from: on-policy, none."""
        del groups
        return []

    def share(self, problems: Sequence[Problem]) -> list[tuple[int, Problem]]:
        """This process's part of them, each with its place among all."""
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        return [(i, problem) for i, problem in enumerate(problems) if i % ranks == rank]

    def quota(self, step: int, wanted: int | None, useful: Useful) -> Quota:
        """Of this process."""
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        share = None if wanted is None else len(range(rank, wanted, ranks))
        return Quota(lambda groups: self.scorer.score(groups, {"global_step": step}), share, useful)

    def gather(self, quota: Quota, collect: Callable[[], None]) -> list[ScoredGroup]:
        """Fill ``quota`` by ``collect``, and gather every process's groups in order."""
        indexed: list[tuple[Place, ScoredGroup] | None]
        try:
            collect()
            indexed = list(quota.scored())
        except Interrupted:
            indexed = [None]  # the others may be waiting in the gathering already: tell them here
        everything = gather_object(indexed) if self.accelerator.num_processes > 1 else indexed
        if None in everything:
            raise Interrupted
        return [group for _, group in sorted(everything, key=lambda pair: pair[0])]


class DynamicExperience:
    """Resample until enough groups are neither all right nor all wrong (DAPO, arXiv 2503.14476, section 3.2), bounded.

    With over-sampling a round asks for more groups than are missing and ends with the first useful ones. A step that
    ends short trains on the useful groups it has; with none at all it keeps the last ones, whose advantages are zero,
    and says so in ``rollout/dynamic_useful``.

    Args:
        reward: whose values must differ within a useful group.
    """

    def __init__(self, plain: PlainExperience, cfg: DynamicSamplingConfig, reward: str) -> None:
        self.plain, self.cfg, self.reward = plain, cfg, reward
        self._left: list[ScoredGroup] = []
        self._metrics: dict[str, float] = {}

    def collect(self, step: int) -> list[ScoredGroup]:
        wanted = self.plain.prompts
        kept = self.plain.fresh(self._left)
        useful, last, sampled, round = list(kept), list[ScoredGroup](), list[ScoredGroup](), 0
        drawn = self.draw(step)
        draw: Draw = self.draw
        while True:
            missing = max(0, wanted - len(useful)) if self.cfg.oversample > 1 else None
            last = self.plain.sample(draw, step, round, missing, self.useful)
            useful += [group for group in last if self.useful(group)]
            sampled += last
            round += 1
            if len(useful) >= wanted or round >= self.cfg.max_rounds:
                break
            extra = self.plain.stream.extra(step, round, self._over(wanted - len(useful)), drawn)
            drawn += extra
            draw = _always(extra)
        self._left = useful[wanted:]
        self._metrics = {
            "rollout/dynamic_rounds": round,
            "rollout/dynamic_drawn": len(drawn),
            "rollout/dynamic_sampled": len(sampled),
            "rollout/dynamic_tokens": sum(len(c) for g in sampled for c in g.group.completions),
            "rollout/dynamic_useful": len(useful),
            "rollout/dynamic_kept": len(kept),
        } | sampled_rewards(sampled)
        return useful[:wanted] or last

    def draw(self, step: int) -> list[Problem]:
        """The step's batch, and what over-sampling asks for beyond it."""
        wanted = self.plain.prompts
        batch, more = self.plain.stream.batch(step, wanted), self._over(wanted) - wanted
        return batch + self.plain.stream.extra(step, 0, more, batch) if more else batch

    def useful(self, group: ScoredGroup) -> bool:
        """Whether the reward that counts differs within the group, and the sum of all does too, so that there is an
        advantage. Where that reward applies to none of its completions, the sum alone decides."""
        named = group.by_reward.get(self.reward, np.zeros(0))
        named = named[~np.isnan(named)]
        return self._differ(group.scored) and (not len(named) or self._differ(named))

    def _differ(self, values: np.ndarray) -> bool:
        return len(values) > 1 and bool(values.std() > self.cfg.min_std)

    def metrics(self) -> dict[str, float]:
        return self._metrics | self.plain.metrics()

    def _over(self, missing: int) -> int:
        return math.ceil(round(missing * self.cfg.oversample, 6))  # 10 × 1.1 is 11 and a trace


def _always(problems: list[Problem]) -> Draw:
    return lambda step: problems


def sampled_rewards(groups: Sequence[ScoredGroup]) -> dict[str, float]:
    """Each reward's mean over all groups that were sampled, those that were replaced included."""
    means = {name: value for name, value in reward_metrics(groups).items() if name.endswith("/mean")}
    return {f"rollout/dynamic_{name.removesuffix('/mean')}": value for name, value in means.items()}


def check_gathered(groups: Sequence[ScoredGroup]) -> None:
    """Raises TrainingError where a step brought nothing at all."""
    if not any(len(c) for g in groups for c in g.group.completions):
        raise TrainingError("the engine returned no tokens at all in this step; check the prompt and the stop strings")

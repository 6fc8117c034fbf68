"""The groups that each step learns from: sampled, scored and gathered from every process."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any, Protocol

from accelerate import Accelerator

from r1rl.data.stream import PromptStream
from r1rl.distributed.collectives import gather
from r1rl.distributed.interrupt import Interrupt, Interrupted
from r1rl.errors import TrainingError
from r1rl.rollout.collect import Rollouts
from r1rl.scoring import Scorer
from r1rl.types import Group, Problem, ScoredGroup


class Experience(Protocol):
    """Source of the groups of each step."""

    def collect(self, step: int) -> list[ScoredGroup]:
        """The step's scored groups, the same list in the same order on every process."""

    def useful(self, group: ScoredGroup) -> bool:
        """Whether the step learns from a group; of any other one, only metrics and samples are logged."""

    def metrics(self) -> dict[str, float]:
        """Figures of the last collection."""


Place = tuple[int, int]
"""Step and index of a group; the order of groups on every process."""

Useful = Callable[[ScoredGroup], bool]
"""Whether a group counts towards the wanted number."""


def any_group(group: ScoredGroup) -> bool:
    del group
    return True


@dataclass(frozen=True, slots=True)
class StepPrompts:
    """The problems of each step: a pure function of the step, the round and what was drawn before.

    ``oversample`` is how many problems a round draws per missing group.
    """

    stream: PromptStream
    wanted: int
    """Groups that a step learns from."""
    oversample: float = 1.0

    def first(self, step: int) -> list[Problem]:
        """The step's batch, and the extra problems of over-sampling."""
        batch, more = self.stream.batch(step, self.wanted), self._over(self.wanted) - self.wanted
        return batch + self.stream.extra(step, 0, more, batch) if more else batch

    def draw(self, step: int, round: int, missing: int, drawn: Sequence[Problem]) -> list[Problem]:
        """The problems of a round; after the first, replacements for ``missing`` groups that are not in ``drawn``."""
        return self.stream.extra(step, round, self._over(missing), drawn) if round else self.first(step)

    def _over(self, missing: int) -> int:
        return math.ceil(round(missing * self.oversample, 6))  # in floating point 10 × 1.1 is slightly more than 11


class Quota:
    """Takes groups as they finish, and knows when enough of them are useful.

    Args:
        state: the ``trainer_state`` of the reward functions.
        wanted: useful groups, after which no further ones are taken; None takes all.
        oldest: the first policy version from which a group still counts as useful.
    """

    def __init__(
        self,
        scorer: Scorer,
        state: Mapping[str, Any],
        wanted: int | None = None,
        useful: Useful = any_group,
        oldest: int = 0,
    ) -> None:
        self.scorer, self.state, self.wanted, self.useful, self.oldest = scorer, state, wanted, useful, oldest
        self._found = 0
        self._waiting: list[tuple[Place, Group]] = []
        self._scored: list[tuple[Place, ScoredGroup]] = []

    @property
    def full(self) -> bool:
        return self.wanted is not None and self._found >= self.wanted

    def take(self, place: Place, group: Group) -> bool:
        """Take a finished group; True when there are enough.

        Waits for rewards only where they could complete the wanted number. Until then scoring continues beside
        sampling.
        """
        self._waiting.append((place, group))
        if self.wanted is not None and self._found + len(self._waiting) >= self.wanted:
            self._score()
        return self.full

    def scored(self) -> list[tuple[Place, ScoredGroup]]:
        """All groups that were taken."""
        self._score()
        return self._scored

    def _score(self) -> None:
        waiting, self._waiting = self._waiting, []
        new = self.scorer.score([group for _, group in waiting], self.state)
        self._scored += [(place, group) for (place, _), group in zip(waiting, new, strict=True)]
        self._found += sum(is_fresh(group.group, self.oldest) and self.useful(group) for group in new)


class PlainExperience:
    """Every problem of the step once."""

    def __init__(
        self,
        prompts: StepPrompts,
        rollouts: Rollouts,
        scorer: Scorer,
        accelerator: Accelerator,
        interrupt: Interrupt,
    ) -> None:
        self.prompts, self.rollouts, self.scorer = prompts, rollouts, scorer
        self.accelerator, self.interrupt = accelerator, interrupt

    def collect(self, step: int) -> list[ScoredGroup]:
        return self.sample(step, 0, self.prompts.first(step))

    def useful(self, group: ScoredGroup) -> bool:
        return any_group(group)

    def metrics(self) -> dict[str, float]:
        return {}

    def sample(
        self,
        step: int,
        round: int,
        problems: Sequence[Problem],
        wanted: int | None = None,
        useful: Useful = any_group,
    ) -> list[ScoredGroup]:
        """Sample and score problems, distributed round-robin over the processes; a group stays whole on one of them.

        Args:
            wanted: stop after this many useful groups over all processes, each of which collects its share; None waits
                for all.

        Raises:
            Interrupted: a stop was requested on any process; raised on all of them.
        """
        quota = self.quota(step, wanted, useful)
        try:
            self.interrupt.check()  # the first group may take long
            self.fill(quota, step, round, self.share(problems))
            taken = quota.scored()
        except Interrupted:
            return self.gather([], interrupted=True)
        return self.gather(taken)

    def fill(self, quota: Quota, step: int, round: int, mine: Sequence[tuple[int, Problem]]) -> None:
        """Sample this process's problems until its quota is full, which aborts the rest."""
        if quota.full:
            return
        for index, group in self.rollouts.stream(mine, step, round):
            self.interrupt.check()
            self.scorer.submit(group)
            if quota.take((step, index), group):
                break

    def oldest(self) -> int:
        """The oldest policy version whose samples may be learned from; on-policy, every sample qualifies."""
        return 0

    def fresh(self, groups: Sequence[ScoredGroup]) -> list[ScoredGroup]:
        """The groups of an earlier step that may still be learned from; on-policy, none."""
        del groups
        return []

    def share(self, problems: Sequence[Problem]) -> list[tuple[int, Problem]]:
        """This process's share of the problems, each with its index among all."""
        return list(enumerate(problems))[self.accelerator.process_index :: self.accelerator.num_processes]

    def quota(self, step: int, wanted: int | None, useful: Useful) -> Quota:
        """This process's share of the useful groups that are wanted."""
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        share = None if wanted is None else len(range(rank, wanted, ranks))
        return Quota(self.scorer, {"global_step": step}, share, useful, self.oldest())

    def gather(self, taken: Sequence[tuple[Place, ScoredGroup]], interrupted: bool = False) -> list[ScoredGroup]:
        """All processes' groups, in order.

        Args:
            interrupted: reported to the other processes, which may already wait here.

        Raises:
            Interrupted: it was so on any process; raised on all of them.
        """
        everywhere = gather([(list(taken), interrupted)])
        if any(stopped for _, stopped in everywhere):
            raise Interrupted
        placed = chain.from_iterable(groups for groups, _ in everywhere)
        return [group for _, group in sorted(placed, key=itemgetter(0))]


def is_fresh(group: Group, oldest: int) -> bool:
    """Whether no completion of a group was started by a policy version older than ``oldest``."""
    return all(completion.version >= oldest for completion in group.completions)


def check_gathered(groups: Sequence[ScoredGroup]) -> None:
    """Raises TrainingError where a step has no groups, or its groups no tokens at all."""
    if not groups:
        raise TrainingError(
            "every group of this step was older than rollout.max_staleness and was dropped; raise it, or sample faster"
        )
    if not any(len(c) for g in groups for c in g.group.completions):
        raise TrainingError("the engine returned no tokens at all in this step; check the prompt and the stop strings")

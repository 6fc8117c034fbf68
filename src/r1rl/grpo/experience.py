"""What a step learns from: problems sampled, scored and gathered from every process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from accelerate import Accelerator
from accelerate.utils import gather_object

from r1rl.config.rollout import DynamicSamplingConfig
from r1rl.data.stream import PromptStream
from r1rl.errors import TrainingError
from r1rl.grpo.interrupt import Interrupted
from r1rl.rollout.collect import Rollouts
from r1rl.scoring import Scorer
from r1rl.types import Group, Problem, ScoredGroup


class Experience(Protocol):
    """Source of the groups of each step."""

    def collect(self, step: int) -> list[ScoredGroup]:
        """The step's scored groups, the same list in the same order on every process."""

    def metrics(self) -> dict[str, float]:
        """About the last collection."""


class PlainExperience:
    """Every problem of the step once."""

    def __init__(
        self, stream: PromptStream, rollouts: Rollouts, scorer: Scorer, accelerator: Accelerator, prompts: int
    ) -> None:
        self.stream, self.rollouts, self.scorer = stream, rollouts, scorer
        self.accelerator, self.prompts = accelerator, prompts

    def collect(self, step: int) -> list[ScoredGroup]:
        return self.sample(self.stream.batch(step, self.prompts), step)

    def metrics(self) -> dict[str, float]:
        return {}

    def sample(self, problems: Sequence[Problem], step: int, round: int = 0) -> list[ScoredGroup]:
        """Sample and score ``problems``, shared among the processes by turns; a group stays whole on one of them."""
        mine = self.share(problems)
        return self.score(mine, lambda: self.rollouts.collect(mine, step, round), step)

    def share(self, problems: Sequence[Problem]) -> list[tuple[int, Problem]]:
        """This process's part of them, each with its place among all."""
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        return [(i, problem) for i, problem in enumerate(problems) if i % ranks == rank]

    def score(
        self, mine: Sequence[tuple[int, Problem]], sampled: Callable[[], list[Group]], step: int
    ) -> list[ScoredGroup]:
        """Score what ``sampled`` brings for ``mine``, and gather every process's groups in order."""
        indexed: list[tuple[int, ScoredGroup] | None]
        try:
            scored = self.scorer.score(sampled(), {"global_step": step})
            indexed = list(zip([i for i, _ in mine], scored, strict=True))
        except Interrupted:
            indexed = [None]  # the others may be waiting in the gathering already: tell them there
        everything = gather_object(indexed) if self.accelerator.num_processes > 1 else indexed
        if None in everything:
            raise Interrupted
        return [group for _, group in sorted(everything, key=lambda pair: pair[0])]


class DynamicExperience:
    """Resample until enough groups disagree about their reward (DAPO, arXiv 2503.14476, section 3.2), bounded.

    A step that ends short trains on the useful groups it has; with none at all it keeps the last ones, whose
    advantages are zero, and says so in ``rollout/dynamic_useful``.
    """

    def __init__(self, plain: PlainExperience, cfg: DynamicSamplingConfig) -> None:
        self.plain, self.cfg = plain, cfg
        self._metrics: dict[str, float] = {}

    def collect(self, step: int) -> list[ScoredGroup]:
        wanted = self.plain.prompts
        problems = self.plain.stream.batch(step, wanted)
        drawn, useful, last = list(problems), [], []
        round = 0
        while True:
            last = self.plain.sample(problems, step, round)
            useful += [g for g in last if g.rewards.std() > self.cfg.min_std]
            round += 1
            if len(useful) >= wanted or round >= self.cfg.max_rounds:
                break
            problems = self.plain.stream.extra(step, round, wanted - len(useful), drawn)
            drawn += problems
        self._metrics = {
            "rollout/dynamic_rounds": round,
            "rollout/dynamic_drawn": len(drawn),
            "rollout/dynamic_useful": len(useful),
        }
        return useful[:wanted] or last

    def metrics(self) -> dict[str, float]:
        return self._metrics


def check_gathered(groups: Sequence[ScoredGroup]) -> None:
    """Raises TrainingError where a step brought nothing at all."""
    if not any(len(c) for g in groups for c in g.group.completions):
        raise TrainingError("the engine returned no tokens at all in this step; check the prompt and the stop strings")

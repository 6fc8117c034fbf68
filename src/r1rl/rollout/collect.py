"""Problems in, groups of completions out."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from r1rl.rollout.engine import Engine, Request
from r1rl.rollout.seeds import completion_seeds
from r1rl.types import Group, Problem, SamplingParams


class Rollouts:
    """Samples groups from the engine.

    Args:
        group_size: completions per problem, G.
    """

    def __init__(self, engine: Engine, params: SamplingParams, group_size: int, seed: int) -> None:
        self.engine, self.params, self.group_size, self.seed = engine, params, group_size, seed

    def stream(
        self, problems: Sequence[tuple[int, Problem]], step: int, round: int
    ) -> Generator[tuple[int, Group], None, None]:
        """One group per problem, with the problem's index, in the order in which they finish.

        Args:
            problems: each with its index among all of the step's problems, over all processes.
            step, round: place in the run; with the index they fix the random streams.
        """
        requests = [
            Request(problem, completion_seeds(self.seed, step, round, index, self.group_size))
            for index, problem in problems
        ]
        for request, completions in self.engine.stream(requests, self.params):
            index, problem = problems[request]
            yield index, Group(problem, completions)

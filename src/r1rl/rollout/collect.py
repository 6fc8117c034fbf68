"""Problems in, groups of completions out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from r1rl.rollout.engine import Engine, Request
from r1rl.types import Completion, Group, Problem, SamplingParams


def completion_seeds(seed: int, step: int, round: int, index: int, count: int) -> tuple[int, ...]:
    """Random streams of one group: a pure function of its place in the run, whatever the number of processes."""
    state = np.random.SeedSequence([seed % 2**63, step, round, index]).generate_state(count, np.uint64)
    return tuple(int(s) for s in state)


class Rollouts:
    """Asks the engine for groups and hands each one on as soon as it is whole.

    Args:
        group_size: completions a problem, G.
        on_group: receives a finished group while others are still being sampled (the scorer's ``submit``).
    """

    def __init__(
        self, engine: Engine, params: SamplingParams, group_size: int, seed: int, on_group: Callable[[Group], None]
    ) -> None:
        self.engine, self.params, self.group_size, self.seed, self.on_group = engine, params, group_size, seed, on_group

    def collect(self, problems: Sequence[tuple[int, Problem]], step: int, round: int = 0) -> list[Group]:
        """One group a problem, in order.

        Args:
            problems: each with its index in the step's whole draw, over all processes.
            step, round: place in the run; with the index they fix the random streams.
        """
        requests = [
            Request(problem, completion_seeds(self.seed, step, round, index, self.group_size))
            for index, problem in problems
        ]
        groups: list[Group | None] = [None] * len(requests)

        def finished(request: int, completions: list[Completion]) -> None:
            group = Group(requests[request].problem, completions)
            groups[request] = group
            self.on_group(group)

        self.engine.generate(requests, self.params, finished)
        return [group for group in groups if group is not None]

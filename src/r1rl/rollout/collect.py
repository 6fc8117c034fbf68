"""Problems in, groups of completions out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import numpy as np

from r1rl.rollout.engine import Engine, Request
from r1rl.types import Completion, Group, Problem, SamplingParams


def completion_seeds(seed: int, step: int, round: int, index: int, count: int) -> tuple[int, ...]:
    """Random streams of one group: a pure function of its place in the run, whatever the number of processes."""
    state = np.random.SeedSequence([seed % 2**63, step, round, index]).generate_state(count, np.uint64)
    return tuple(int(s) for s in state)


OnGroup = Callable[[int, Group], object]
"""Called with a problem's index and its finished group; what it returns is true when no further groups are needed."""


class _Enough(Exception):
    """Ends a generate call from inside; the engine aborts what is still running."""


class Rollouts:
    """Asks the engine for groups and hands each one on as soon as it is whole.

    Args:
        group_size: completions per problem, G.
        on_group: receives a finished group while others are still being sampled (the scorer's ``submit``).
    """

    def __init__(
        self, engine: Engine, params: SamplingParams, group_size: int, seed: int, on_group: Callable[[Group], None]
    ) -> None:
        self.engine, self.params, self.group_size, self.seed, self.on_group = engine, params, group_size, seed, on_group

    def collect(self, problems: Sequence[tuple[int, Problem]], step: int, round: int, taken: OnGroup) -> None:
        """One group per problem, in the order in which they finish; the rest is aborted when ``taken`` has enough.

        Args:
            problems: each with its index in the step's whole draw, over all processes.
            step, round: place in the run; with the index they fix the random streams.
        """
        requests = [
            Request(problem, completion_seeds(self.seed, step, round, index, self.group_size))
            for index, problem in problems
        ]

        def finished(request: int, completions: list[Completion]) -> None:
            group = Group(requests[request].problem, completions)
            self.on_group(group)
            if taken(problems[request][0], group):
                raise _Enough

        with contextlib.suppress(_Enough):
            self.engine.generate(requests, self.params, finished)

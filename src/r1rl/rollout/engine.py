"""What every rollout engine looks like to the loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from r1rl.types import Completion, Problem, SamplingParams


@dataclass(frozen=True, slots=True)
class Request:
    """Ask for one completion per seed. Each seed is a random stream of its own: what is sampled for it does not
    depend on what else is in the batch, but for the rounding of the model's own arithmetic."""

    problem: Problem
    seeds: tuple[int, ...]


OnFinish = Callable[[int, list[Completion]], None]
"""Called with a request's index and all its completions as soon as the last of them is done."""


class Engine(Protocol):
    """Samples completions on weights that :meth:`sync` hands over."""

    version: int
    """Of the weights that the next request is sampled from."""

    def generate(
        self, requests: Sequence[Request], params: SamplingParams, on_finish: OnFinish | None = None
    ) -> list[list[Completion]]:
        """Completions of each request, in order. What ``on_finish`` raises comes out here, and ends the rest."""

    def sync(self, version: int) -> None:
        """Take the learner's current weights; completions sampled from now on carry ``version``."""

    def metrics(self) -> dict[str, float]:
        """About the engine itself: servers lost, the last sync."""

    def close(self) -> None:
        """End whatever the engine owns."""

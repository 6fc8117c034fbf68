"""The interface of every rollout engine."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from r1rl.types import Completion, Problem, SamplingParams


@dataclass(frozen=True, slots=True)
class Request:
    """Asks for one completion per seed. Each seed is its own random stream: what is sampled for it does not depend on
    what else is in the batch, except for the rounding of the model's arithmetic."""

    problem: Problem
    seeds: tuple[int, ...]


FinishedGroups = Generator[tuple[int, list[Completion]], None, None]
"""A request's index with all its completions, in the order in which requests finish."""


Factory = TypeVar("Factory", bound=Callable[..., "Engine"])


class Engine(Protocol):
    """Samples completions from the weights that :meth:`sync` passes on."""

    @property
    def version(self) -> int:
        """Version of the weights that the next request is sampled from."""

    def stream(self, requests: Sequence[Request], params: SamplingParams) -> FinishedGroups:
        """Finished groups, each as soon as its last completion is done.

        Sampling starts with the first item. Leaving the loop early, by ``break`` or an exception, closes the generator
        and aborts what is still running; so does ``close()``. Between two items no global state is changed, so the
        caller may train, evaluate or sync there. Requests without seeds are not yielded.
        """

    def sync(self, version: int) -> None:
        """Take the learner's current weights; completions sampled from now on carry ``version``."""

    def metrics(self) -> dict[str, float]:
        """Figures of the engine itself: servers lost, the last sync."""

    def close(self) -> None:
        """End whatever the engine owns."""


@runtime_checkable
class Resting(Protocol):
    """An engine on the learner's own device, which need not keep the memory of sampling while the learner works."""

    def rest(self) -> None:
        """Give that memory back until the next stream or sync."""


def rest(engine: Engine) -> None:
    """Called before the learner updates."""
    if isinstance(engine, Resting):
        engine.rest()


def in_process(build: Factory) -> Factory:
    """Marks an engine's factory: the engine samples in the trainer's process, with the policy that it is given.

    Such a factory gets the whole weights where training shards them (ZeRO-3). As they are the learner's own, samples
    are never stale, and rollout.max_staleness has to be 0.
    """
    vars(build)["samples_in_process"] = True
    return build


def complete(engine: Engine, requests: Sequence[Request], params: SamplingParams) -> list[list[Completion]]:
    """All completions of each request, in the order of ``requests``."""
    finished = dict(engine.stream(requests, params))
    return [finished.get(index, []) for index in range(len(requests))]

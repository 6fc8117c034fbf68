"""What grading a program needs besides the program and its tests, and what it results in."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from r1rl.errors import SandboxError
from r1rl.programs.compare import OutputChecker
from r1rl.programs.types import Execution, Interactive, Program, ProgramVerdict, Runner

T = TypeVar("T")
Credit = Literal["whole", "share"]


@dataclass(frozen=True, slots=True)
class Graded:
    """How a program did on its tests."""

    verdict: ProgramVerdict | None
    """``PASSED``, or how the first test failed. None if the tests themselves cannot be run."""
    passed: int
    total: int
    """Tests that were counted; those after an early stop are counted as not passed."""
    detail: str = ""
    """The end of what the program wrote to stderr, or what is wrong with the tests."""

    @property
    def share(self) -> float:
        """Share of the tests that passed, 0 to 1."""
        return self.passed / self.total if self.total else 0.0


class Bench:
    """Where programs run, and how their results are judged.

    Args:
        credit: ``whole`` stops at the first test that fails; ``share`` runs all, but stops at the first that exceeds a
            limit.
        tolerance: for numbers in outputs, of problems that do not state one of their own.
        checker: decides about the output to stdin tests instead of a comparison.
        at_once: executions that are handed to the runner at one time.
        answer_s: seconds in which the runner has to answer one of them, whatever the program does.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        credit: Credit = "whole",
        tolerance: float | None = None,
        checker: OutputChecker | None = None,
        at_once: int = 4,
        answer_s: float = 300.0,
    ) -> None:
        self.runner, self.credit = runner, credit
        self.tolerance, self.checker = tolerance, checker
        self._slots, self._answer_s = asyncio.Semaphore(at_once), answer_s

    async def run(self, program: Program, stdin: str) -> Execution:
        """Run a program without blocking the event loop. Raises R1Error if the back end itself fails."""
        async with self._slots:
            return await self._answer(self.runner.submit(program, stdin))

    async def interact(self, judge: Program, program: Program) -> tuple[Execution, Execution]:
        """Run two connected programs. Raises R1Error if the back end fails, or cannot do so."""
        if not isinstance(self.runner, Interactive):
            raise SandboxError(f"{type(self.runner).__name__} cannot connect a program with its tests")
        async with self._slots:
            return await self._answer(self.runner.interact(judge, program))

    async def _answer(self, answer: Future[T]) -> T:
        try:
            return await asyncio.wait_for(asyncio.wrap_future(answer), self._answer_s)
        except TimeoutError:
            name = type(self.runner).__name__
            raise SandboxError(
                f"{name} did not answer within {self._answer_s:g} s; restart it, or see its log"
            ) from None


class Tests(Protocol):
    """The tests of one problem."""

    def __len__(self) -> int: ...

    async def grade(self, source: str, language: str, bench: Bench) -> Graded:
        """Run a program on the tests. What the program does never raises; R1Error if the back end itself fails."""
        ...


EXCEEDED = frozenset((ProgramVerdict.TIME, ProgramVerdict.MEMORY, ProgramVerdict.OUTPUT))
"""Verdicts after which no further test is run, so that a program costs at most one limit."""


def last_words(execution: Execution) -> str:
    """The end of what a program wrote to stderr."""
    return execution.stderr[-500:].strip()

"""Grades completions: finds the program in each, runs it on the problem's tests, and names the outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from r1rl.errors import RewardError
from r1rl.programs.bench import Bench, Graded, Tests
from r1rl.programs.blocks import last_block
from r1rl.programs.types import ProgramLimits, ProgramVerdict, Runner
from r1rl.registry import RUNNERS

NO_PROGRAM, UNJUDGED = "no_program", "unjudged"
OUTCOMES = (*map(str, ProgramVerdict), NO_PROGRAM, UNJUDGED)
"""Outcomes of a completion: the verdicts, no block of the language, and tests that cannot be run."""


@dataclass(frozen=True, slots=True)
class Grade:
    """What became of one completion."""

    name: str
    """One of ``OUTCOMES``."""
    passed: int = 0
    total: int = 0
    """Tests."""
    detail: str = ""

    @property
    def share(self) -> float:
        """Share of the tests that passed, 0 to 1."""
        return self.passed / self.total if self.total else 0.0

    @classmethod
    def of(cls, graded: Graded) -> Grade:
        """The outcome of a program."""
        name = UNJUDGED if graded.verdict is None else str(graded.verdict)
        return cls(name, graded.passed, graded.total, graded.detail)


async def grade_text(text: str, tests: Tests, language: str, bench: Bench) -> Grade:
    """The outcome of one completion. Raises R1Error if the runner itself fails."""
    source = last_block(text, language)
    if source is None:
        return Grade(NO_PROGRAM, total=len(tests))
    return Grade.of(await tests.grade(source, language, bench))


def open_runner(name: str, language: str, workers: int, limits: ProgramLimits, options: Mapping[str, Any]) -> Runner:
    """The runner that ``name`` stands for, which its caller closes.

    Raises: RewardError for an unknown name, options that it does not take, or a language that it does not have;
    SandboxError if it cannot run programs here.
    """
    make = RUNNERS.load(name)
    try:
        runner = cast(Runner, make(workers=workers, limits=limits, **options))
    except TypeError as error:
        raise RewardError(f"runner {name!r} does not take these options: {error}") from error
    if language not in runner.languages:
        known = ", ".join(runner.languages)
        runner.close()
        raise RewardError(f"runner {name!r} has no {language!r}; it runs: {known}")
    return runner

"""Grades one program, for tests."""

from __future__ import annotations

import asyncio

from r1rl.programs.bench import Bench, Graded, Tests
from r1rl.programs.types import Runner


def graded(tests: Tests | None, source: str, runner: Runner, *, language: str = "python", **options: object) -> Graded:
    """The result of one program on the tests of one problem."""
    assert tests is not None
    return asyncio.run(tests.grade(source, language, Bench(runner, **options)))  # type: ignore[arg-type]

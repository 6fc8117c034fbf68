"""The code reward: the program in a completion is run on the problem's tests, in a sandbox.

DeepSeek-R1 (arXiv 2501.12948, section 2.2.2) rewards programs by predefined test cases. docs/code.md has the formats of
tests and what the isolation promises.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal

from r1rl import locate
from r1rl.errors import DataError, R1Error, RewardError, SandboxError
from r1rl.openai_client import gathered
from r1rl.programs.bench import Bench, Tests
from r1rl.programs.compare import OutputChecker
from r1rl.programs.formats import UnreadableError, read_tests
from r1rl.programs.grader import OUTCOMES, UNJUDGED, Grade, grade_text, open_runner
from r1rl.programs.types import ProgramLimits
from r1rl.verify.checker import count
from r1rl_rewards.texts import texts_of

log = logging.getLogger(__name__)

_NOT_OF_THE_ROW = frozenset(("prompts", "completion_ids"))
_MOST_FAILURES = 32
"""Failures of the runner in a row, over all completions, that end the run."""


class Code:
    """1 where the last fenced block of ``language`` passes all tests, else 0; None for rows without tests.

    Args:
        language: ``python`` or ``cpp``.
        credit: ``whole``, or ``share``: the share of the tests that pass.
        runner: ``sandbox``, ``piston``, ``sandbox_fusion``, ``e2b``, or your own by ``module:name``.
        options: of the runner, for example ``{url: http://host:2000/api/v2}``.
        workers: programs at one time; one per core is right for the sandbox on this machine.
        max_tests: run the first of a problem's tests only.
        tolerance: for numbers in outputs; None compares them as text. A column ``tolerance`` has precedence.
        checker: ``path.py:function``, called with stdin, expected and actual stdout, instead of a comparison.
        cpu_s, wall_s, memory_mb, output_kb: limits of one execution: of one test with stdin, of all calls together.
    """

    limits_itself = True
    """Every execution has limits of its own; what waits for its turn is not too slow."""

    def __init__(
        self,
        *,
        language: str = "python",
        credit: Literal["whole", "share"] = "whole",
        runner: str = "sandbox",
        options: Mapping[str, Any] | None = None,
        workers: int = 4,
        max_tests: int | None = None,
        tolerance: float | None = None,
        checker: str | None = None,
        cpu_s: float = 4.0,
        wall_s: float = 12.0,
        memory_mb: int = 512,
        output_kb: int = 1024,
    ) -> None:
        if credit not in ("whole", "share"):
            raise RewardError(f"code: credit is {credit!r}; it is whole or share")
        self._language, self._max_tests = language, max_tests
        limits = ProgramLimits(cpu_s=cpu_s, wall_s=wall_s, memory_mb=memory_mb, output_kb=output_kb)
        found = _checker(checker) if checker else None
        self._runner = open_runner(runner, language, workers, limits, options or {})
        self._bench = Bench(self._runner, credit=credit, tolerance=tolerance, checker=found, at_once=2 * workers)
        self._failures = 0

    async def __call__(
        self,
        completions: list[Any],
        prefill: list[str] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        **columns: list[Any],
    ) -> list[float | None]:
        """The reward of each completion."""
        texts = texts_of(completions, prefill)
        columns = {name: values for name, values in columns.items() if name not in _NOT_OF_THE_ROW}
        outcomes = await self.outcomes(texts, [{name: columns[name][i] for name in columns} for i in range(len(texts))])
        if log_metric is not None:
            _log(outcomes, log_metric)
        if log_extra is not None:
            log_extra("verdict", [outcome and outcome.name for outcome in outcomes])
        return [self._reward(outcome) for outcome in outcomes]

    async def outcomes(self, texts: list[str], rows: list[dict[str, Any]]) -> list[Grade | None]:
        """What became of each text, on the tests of its row; None for a row without tests."""
        return await gathered(map(self._outcome, texts, await self._all_tests(rows)))

    def close(self) -> None:
        """End the runner and its processes."""
        self._runner.close()

    def _reward(self, outcome: Grade | None) -> float | None:
        if outcome is None or outcome.name == UNJUDGED:
            return None
        return outcome.share if self._bench.credit == "share" else float(outcome.name == "passed")

    async def _all_tests(self, rows: list[dict[str, Any]]) -> list[Tests | Grade | None]:
        """The tests of each row; those of a problem, whose columns are the same objects in every row, are read once."""
        read: dict[tuple[int, ...], Tests | Grade | None] = {}
        keys = [tuple(map(id, row.values())) for row in rows]
        for key, row in zip(keys, rows, strict=True):
            if key not in read:
                read[key] = await self._tests(row)
        return [read[key] for key in keys]

    async def _tests(self, row: dict[str, Any]) -> Tests | Grade | None:
        try:
            return await asyncio.to_thread(read_tests, row, self._max_tests)
        except UnreadableError as error:
            log.warning("code: %s; its completions have no reward", error)
            return Grade(UNJUDGED, detail=str(error))
        except DataError as error:
            raise RewardError(f"code: {error}") from error

    async def _outcome(self, text: str, tests: Tests | Grade | None) -> Grade | None:
        if tests is None or isinstance(tests, Grade):
            count("errors", tests is not None)
            return tests
        try:
            outcome = await grade_text(text, tests, self._language, self._bench)
        except R1Error as error:
            return self._failed(error)
        self._failures = 0
        return outcome

    def _failed(self, error: R1Error) -> Grade:
        """A completion that the runner could not grade. Raises SandboxError after too many in a row."""
        self._failures += 1
        count("errors")
        if self._failures >= _MOST_FAILURES:
            raise SandboxError(f"code: {self._failures} programs in a row could not be run: {error}") from error
        log.warning("code: a program could not be run, and has no reward: %s", error)
        return Grade(UNJUDGED, detail=str(error))


def _log(outcomes: list[Grade | None], log_metric: Callable[[str, float], None]) -> None:
    """``code/OUTCOME``, the share of each outcome, and ``code/tests``, the share of the tests that passed."""
    graded = [outcome for outcome in outcomes if outcome is not None]
    for name in OUTCOMES if graded else ():
        log_metric(f"code/{name}", sum(outcome.name == name for outcome in graded) / len(graded))
    judged = [outcome for outcome in graded if outcome.name != UNJUDGED]
    if judged:
        log_metric("code/tests", sum(outcome.share for outcome in judged) / len(judged))


def _checker(use: str) -> OutputChecker:
    try:
        found: OutputChecker = locate.load(use)
    except ImportError as error:
        raise RewardError(f"code: checker {error}") from error
    return found

"""Tests that give a program its stdin and compare its stdout: APPS, TACO, CodeContests, Codeforces, LiveCodeBench."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from r1rl.programs.bench import EXCEEDED, Bench, Graded, last_words
from r1rl.programs.compare import same_output
from r1rl.programs.types import Execution, Program, ProgramVerdict


@dataclass(frozen=True, slots=True)
class StdinTests:
    """Pairs of stdin and expected stdout, each a run of its own within the limits."""

    cases: Sequence[tuple[str, str]]
    tolerance: float | None = None
    """The one that the problem states; None takes the bench's."""

    def __len__(self) -> int:
        return len(self.cases)

    async def grade(self, source: str, language: str, bench: Bench) -> Graded:
        """Test by test, up to the first that fails, or with ``share`` credit to the first beyond a limit."""
        program = Program(source, language)
        verdict: ProgramVerdict = ProgramVerdict.PASSED
        passed, detail = 0, ""
        for stdin, expected in self.cases:
            execution = await bench.run(program, stdin)
            found = await asyncio.to_thread(self._verdict, stdin, expected, execution, bench)
            if found is ProgramVerdict.PASSED:
                passed += 1
                continue
            if verdict is ProgramVerdict.PASSED:
                verdict, detail = found, last_words(execution)
            if bench.credit == "whole" or found in _LAST:
                break
        return Graded(verdict, passed, len(self.cases), detail)

    def _verdict(self, stdin: str, expected: str, execution: Execution, bench: Bench) -> ProgramVerdict:
        if execution.failure is not None:
            return execution.failure
        if bench.checker is not None:
            right = bench.checker(stdin, expected, execution.stdout)
        else:
            right = same_output(expected, execution.stdout, self.tolerance or bench.tolerance)
        return ProgramVerdict.PASSED if right else ProgramVerdict.WRONG


_LAST = EXCEEDED | {ProgramVerdict.COMPILE, ProgramVerdict.FORBIDDEN}

"""Tests that call a function of the program: LeetCode, APPS with ``fn_name``, and asserts that compare with a literal.

The program gets the arguments on its stdin and writes results to its stdout, as plain data. They are compared here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from r1rl.programs import inside
from r1rl.programs.bench import Bench, Graded, last_words
from r1rl.programs.compare import same_value
from r1rl.programs.types import Execution, Program, ProgramVerdict

LEETCODE = """\
import bisect, collections, copy, functools, heapq, itertools, math, operator, random, re, string, sys
from bisect import *; from collections import *; from functools import *; from heapq import *; from itertools import *
from math import *; from typing import *
"""
"""What LeetCode imports before a solution; ``typing`` and ``collections`` last, for ``List`` and ``Counter``."""


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """One call, and what its result has to be."""

    function: str
    args: Sequence[Any]
    expected: Any
    named: Mapping[str, Any] = field(default_factory=dict)
    rule: str = "json"
    """A name in ``RULES``."""


@dataclass(frozen=True, slots=True)
class CallTests:
    """Calls in one process, one after another, within the limits together."""

    calls: Sequence[FunctionCall]
    preamble: str = ""
    """Put before the program."""
    tolerance: float | None = None
    """The one that the problem states; None takes the bench's."""

    def __len__(self) -> int:
        return len(self.calls)

    async def grade(self, source: str, language: str, bench: Bench) -> Graded:
        """All calls in one run; the verdict is that of the first result which is not as expected."""
        if language != "python":
            return Graded(None, 0, len(self.calls), f"function calls can be tested in Python, not in {language}")
        lines = "".join(json.dumps(_request(call)) + "\n" for call in self.calls)
        execution = await bench.run(program_source(f"{self.preamble}\n{source}"), lines)
        answers = execution.stdout.splitlines()
        verdict, passed, detail = ProgramVerdict.PASSED, 0, last_words(execution)
        for place, call in enumerate(self.calls):
            found, words = self._verdict(call, answers[place] if place < len(answers) else "", execution, bench)
            passed += found is ProgramVerdict.PASSED
            if found is not ProgramVerdict.PASSED and verdict is ProgramVerdict.PASSED:
                verdict, detail = found, words or detail
                if bench.credit == "whole":
                    break
        if verdict is ProgramVerdict.PASSED and execution.failure is not None:
            verdict = failure_of(execution)
        return Graded(verdict, passed, len(self.calls), "" if verdict is ProgramVerdict.PASSED else detail)

    def _verdict(
        self, call: FunctionCall, answer: str, execution: Execution, bench: Bench
    ) -> tuple[ProgramVerdict, str]:
        try:
            kind, result, more = json.loads(answer)
            value = inside.decode(result) if kind == "value" else None
        except (ValueError, TypeError, KeyError, RecursionError, AttributeError):
            return failure_of(execution), ""
        if kind != "value":
            return ProgramVerdict.RUNTIME_ERROR, f"{result[:1]}: {more}"[:500]
        right = RULES[call.rule](call.expected, value, self.tolerance or bench.tolerance)
        return (ProgramVerdict.PASSED if right else ProgramVerdict.WRONG), ""


def program_source(source: str) -> Program:
    """A program that answers requests with the functions that ``source`` defines."""
    return Program(f"{_inside()}\nserve({source!r})\n")


def judge_source(setup: str, tests: str, names: Sequence[str], entry: str | None, go_on: bool) -> Program:
    """A program that holds tests and asks another one, at the other end of its stdin and stdout."""
    return Program(f"{_inside()}\njudge({setup!r}, {tests!r}, {list(names)!r}, {entry!r}, {go_on!r})\n")


def failure_of(execution: Execution) -> ProgramVerdict:
    """The verdict on a program that ended before it had answered everything."""
    if execution.exit_code == inside.SYNTAX_ERROR:
        return ProgramVerdict.COMPILE
    return execution.failure or ProgramVerdict.RUNTIME_ERROR


@cache
def _inside() -> str:
    return Path(inside.__file__).read_text(encoding="utf-8")


def _request(call: FunctionCall) -> list[Any]:
    return ["call", call.function, inside.encode(list(call.args)), inside.encode(dict(call.named))]


# -------------------------------------------------------------------------------------------- what a result has to be


def _equal(expected: Any, result: Any, tolerance: float | None) -> bool:
    return bool(result == expected)


def _is(expected: Any, result: Any, tolerance: float | None) -> bool:
    return result is expected


def _true(expected: Any, result: Any, tolerance: float | None) -> bool:
    return bool(result) is expected


def _json_or_only(expected: Any, result: Any, tolerance: float | None) -> bool:
    """APPS and TACO wrap most expected results in a list."""
    only = isinstance(expected, list) and bool(expected) and same_value(expected[0], result, tolerance)
    return only or same_value(expected, result, tolerance)


RULES: dict[str, Callable[[Any, Any, float | None], bool]] = {
    "json": same_value,
    "json_or_only": _json_or_only,
    "equal": _equal,
    "is": _is,
    "true": _true,
}
"""``(expected, result, tolerance) -> bool`` by name; ``true`` expects a truth value, ``is`` None, True or False."""

"""What is read out of a completion is what was written there, or none: for random expressions in many endings."""

from __future__ import annotations

import os
import re
from collections import Counter

import pytest

from benchmarks.endings import ENDINGS, KINDS, LATEX_ENDINGS, PLAIN_ENDINGS, cases, given
from r1rl.verify import Checker, Limits, find_answer

_LAYOUT = re.compile(r"\\[,;:! ]|[\s$]|\\left|\\right")
PATIENT = Limits(cpu_s=30.0, wall_s=120.0)
MOST_UNREAD = 0.02
"""Share of all cases that may give no answer, which is a lost reward."""


def read(count: int, seed: int) -> tuple[list[tuple[str, str, str]], Counter[str]]:
    """(completion, given, extracted) where the two differ, and the kinds of those that were not read."""
    differ, unread = [], Counter[str]()
    for expression, ending, completion in cases(count, seed):
        found, written = find_answer(completion), given(expression, ending)
        if found is None:
            unread[expression.kind] += 1
        elif squeezed(found.text) != squeezed(written):
            differ.append((completion, written, found.text))
    return differ, unread


def squeezed(text: str) -> str:
    return _LAYOUT.sub("", text).strip(".")


def check(count: int, seed: int) -> None:
    """The oracle knows nothing of completions: it compares the expression itself with what was read."""
    differ, unread = read(count, seed)
    with Checker(limits=PATIENT) as checker:
        forth = checker.equivalent_many([(written, found) for _, written, found in differ])
        back = checker.equivalent_many([(found, written) for _, written, found in differ])
    wrong = [case for case, *verdicts in zip(differ, forth, back, strict=True) if not all(verdicts)]
    assert not wrong, wrong[:5]
    assert unread.total() <= MOST_UNREAD * count, unread


def test_there_are_enough_kinds_and_endings() -> None:
    assert len(set(LATEX_ENDINGS)) + len(set(PLAIN_ENDINGS)) >= 60
    assert len(ENDINGS) >= 90
    assert len(KINDS) >= 28


def test_nothing_else_is_read() -> None:
    check(1_500, seed=0)


@pytest.mark.slow
def test_nothing_else_is_read_in_many_cases() -> None:
    """R1RL_EXTRACTION_CASES sets the number; python -m benchmarks.extraction prints the figures."""
    check(int(os.environ.get("R1RL_EXTRACTION_CASES", "30000")), seed=1)

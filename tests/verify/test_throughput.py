"""The exact path is at least ten times math-verify's on numbers, and algebra no slower on symbols, in the same run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from math_verify import parse, verify

from r1rl.verify import Checker, extract_answer
from r1rl.verify.exact import compare_exactly
from r1rl.verify.text import clean

Check = Callable[[str, str], object]


def seconds(check: Check, pairs: list[tuple[str, str]]) -> float:
    started = time.perf_counter()
    for gold, text in pairs:
        check(gold, text)
    return time.perf_counter() - started


def test_numbers(checker: Checker) -> None:
    pairs = [(str(n), f"It is \\boxed{{{n + n % 2}}}.") for n in range(0, 100_000, 500)]

    def ours(gold: str, text: str) -> object:
        return checker.equivalent(gold, extract_answer(text) or "")

    def theirs(gold: str, text: str) -> object:
        return verify(parse(gold), parse(text))

    assert min(seconds(ours, pairs) for _ in range(3)) * 10 <= min(seconds(theirs, pairs) for _ in range(3))


def test_symbols(checker: Checker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    lines = Path(__file__).with_name("agreement.tsv").read_text(encoding="utf-8").splitlines()
    pairs = [(line.split("\t")[1], line.split("\t")[2]) for line in lines if not line.startswith("#")]
    pairs = [pair for pair in pairs if compare_exactly(*map(clean, pair)) is None][::5]

    def theirs(gold: str, answer: str) -> object:
        return verify(parse(f"${gold}$"), parse(f"${answer}$"))

    assert seconds(checker.equivalent, pairs) <= seconds(theirs, pairs)

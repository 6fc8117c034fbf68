"""Our verdicts on stated pairs, and math-verify's beside them: the same, or for the reason the pair gives."""

from __future__ import annotations

import logging
from functools import cache

import pytest
from math_verify import parse, verify

from r1rl.verify import Checker
from tests.support.agreement import PAIRS


def test_there_are_enough_pairs_of_both_kinds() -> None:
    assert len(set(PAIRS)) >= 500
    assert min(sum(pair.same for pair in PAIRS), sum(not pair.same for pair in PAIRS)) >= 200


def test_our_verdicts_in_both_directions() -> None:
    with Checker() as checker:
        forth = checker.equivalent_many([(pair.gold, pair.answer) for pair in PAIRS])
        back = checker.equivalent_many([(pair.answer, pair.gold) for pair in PAIRS])
    wrong = [
        (pair.gold, pair.answer, *found)
        for pair, *found in zip(PAIRS, forth, back, strict=True)
        if [bool(verdict) for verdict in found] != [pair.same] * 2
    ]
    assert not wrong
    assert not any(verdict.lost for verdict in (*forth, *back))


@cache
def parsed(text: str, undelimited: bool) -> list[object]:
    return list(parse(text if undelimited else f"${text}$"))


def test_math_verify_agrees_but_for_a_stated_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    unexplained, stale = [], []
    for pair in PAIRS:
        gold, answer = parsed(pair.gold, pair.undelimited), parsed(pair.answer, pair.undelimited)
        agrees = [bool(verify(gold, answer)), bool(verify(answer, gold))] == [pair.same] * 2
        if not agrees and not pair.reason:
            unexplained.append(pair)
        if agrees and pair.reason:
            stale.append(pair)
    assert not unexplained
    assert not stale


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        (r"\frac{1}{2004!}", r"\frac{1}{2006!}"), ("1 - 1/e", "1 + 1/e"), ("2^{-99}", "2^{-98}"),
        ("10^{-20}", "10^{-21}"), ("x+y=1", "x^2=4"), ("x^2+1=0", "x^4+1=0"), ("n=2,3,4", "n=1,2,3"),
        (r"\pm 2021", "2021"), ("2021", r"\pm 2021"), ("12:00", "1:00"),
    ],
)  # fmt: skip
def test_what_a_lenient_comparison_takes_for_equal_is_in_the_suite(gold: str, answer: str) -> None:
    assert any((pair.gold, pair.answer, pair.same) == (gold, answer, False) for pair in PAIRS)

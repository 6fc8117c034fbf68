"""Completions in published answer styles: our verdicts as stated, and math-verify's the same, or for the reason given.

The styles are those of GSM8K, MATH, DeepSeek-R1, Qwen, Minerva, Gaokao, OlympiadBench, open-r1, verl, AIME and multiple
choice; the texts are our own.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import pytest
from math_verify import parse, verify

from r1rl.verify import Checker, extract_answer

LEAST_AGREEMENT = 0.97


@dataclass(frozen=True)
class Case:
    style: str
    same: bool
    gold: str
    completion: str
    reason: str = ""
    """Why math-verify's verdict is another one; "" where it is the same."""


FILE = Path(__file__).with_name("completions.jsonl")
CASES = [Case(**json.loads(line)) for line in FILE.read_text(encoding="utf-8").splitlines()]


def test_there_are_enough_of_many_styles() -> None:
    assert len({(case.gold, case.completion) for case in CASES}) >= 500
    assert len({case.style for case in CASES}) >= 12
    assert min(sum(case.same for case in CASES), sum(not case.same for case in CASES)) >= 150


def test_our_verdicts() -> None:
    with Checker() as checker:
        verdicts = checker.equivalent_many([(case.gold, extract_answer(case.completion) or "") for case in CASES])
    assert [case for case, verdict in zip(CASES, verdicts, strict=True) if bool(verdict) != case.same] == []


@pytest.mark.slow
def test_math_verify_agrees_but_for_a_stated_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    agrees = [bool(verify(parse(f"${case.gold}$"), parse(case.completion))) == case.same for case in CASES]
    assert [case for case, same in zip(CASES, agrees, strict=True) if same == bool(case.reason)] == []
    assert sum(agrees) >= LEAST_AGREEMENT * len(CASES)

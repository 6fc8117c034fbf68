"""Every gold answer of GSM8K verifies against itself, in both its notations, and in the ways models write it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from r1rl.verify import Checker, extract_answer

PLACE = Path(os.environ.get("R1RL_GSM8K", Path(__file__).parents[3] / "shared" / "data" / "gsm8k"))
NOTATIONS = (
    "#### {}", "A: {}", "The answer is {}.", r"so it is \boxed{{{}}}.", r"<think>\boxed{{0}}</think>\boxed{{{}}}",
    "<think>9</think><answer>{}</answer>", "She earns ${} in all.",
)  # fmt: skip


@pytest.fixture(scope="module")
def solutions() -> list[str]:
    if not PLACE.is_dir():
        pytest.skip(f"no GSM8K at {PLACE}; set R1RL_GSM8K to a folder with train.jsonl and test.jsonl")
    return [json.loads(line)["answer"] for name in ("train", "test") for line in (PLACE / f"{name}.jsonl").open()]


def test_all_golds_in_all_notations(solutions: list[str]) -> None:
    assert len(solutions) == 8792
    golds = [extract_answer(solution) for solution in solutions]
    assert all(gold and solution.endswith(gold) for gold, solution in zip(golds, solutions, strict=True))
    with Checker() as checker:
        for notation in NOTATIONS:
            answers = [extract_answer(notation.format(gold)) for gold in golds]
            verdicts = checker.equivalent_many(
                [(gold or "", answer or "") for gold, answer in zip(golds, answers, strict=True)]
            )
            assert all(verdicts), notation
            bare = [
                (gold or "", f"{int((gold or '').replace(',', '')):,}") for gold in golds if gold and "." not in gold
            ]
            assert all(checker.equivalent_many(bare))
            off = [
                (gold or "", str(int((gold or "").replace(",", "")) + 1)) for gold in golds if gold and "." not in gold
            ]
            assert not any(checker.equivalent_many(off))
        assert not checker.sandbox.started

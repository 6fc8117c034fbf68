"""Pairs of answers with stated verdicts: the rows of ``tests/verify/agreement.tsv``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pair:
    """``reason`` says why math-verify's verdict is another one; "" where it is the same."""

    same: bool
    gold: str
    answer: str
    reason: str
    undelimited: bool


FILE = Path(__file__).parents[1] / "verify" / "agreement.tsv"


def read_pairs() -> list[Pair]:
    pairs, undelimited = [], False
    for line in FILE.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            undelimited = line.startswith("# undelimited")
            continue
        sign, gold, answer, *reason = line.split("\t")
        pairs.append(Pair(sign == "=", gold, answer, reason[0] if reason else "", undelimited))
    return pairs


PAIRS = read_pairs()

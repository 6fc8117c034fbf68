"""The verdict of a check of one answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """The five ways a check can end. Only the first two judge the answer; the last two are lost checks."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNPARSABLE = "unparsable"
    TIMEOUT = "timeout"
    CRASH = "crash"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome and the path that decided it (``number``, ``text``, ``algebra``, ``wall``, …). Truthy if correct."""

    outcome: Outcome
    path: str

    def __bool__(self) -> bool:
        return self.outcome is Outcome.CORRECT

    @property
    def lost(self) -> bool:
        """True if the check itself failed, so that nothing is known about the answer."""
        return self.outcome in (Outcome.TIMEOUT, Outcome.CRASH)


def judged(equal: bool, path: str) -> Verdict:
    """True if the verdict judges the answer itself."""
    return Verdict(Outcome.CORRECT if equal else Outcome.WRONG, path)

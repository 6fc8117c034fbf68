"""Countdown: does an expression reach the target with each given number used exactly once?

A dedicated parser over exact fractions: four operations and brackets, nothing else. Without powers it is not open to
``95**88**77**66``, which earlier checkers passed to ``eval``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction

from r1rl.verify.verdict import Outcome, Verdict, judged

MAX_LENGTH = 300
_MAX_DEPTH = 30
_TOKEN = re.compile(r"\s*([0-9]{1,9}|[-+*/()])")
_SIGNS = str.maketrans({"×": "*", "·": "*", "⋅": "*", "÷": "/", "−": "-", "–": "-", "[": "(", "]": ")"})


class _Malformed(ValueError):
    """Text that is not an expression of the game."""


def check_countdown(expression: str, numbers: Iterable[int], target: int) -> Verdict:
    """Judge an expression, with or without ``= target`` after it.

    The path of a wrong one is the reason: ``numbers`` (not each exactly once), ``division`` (by zero) or ``value``.
    """
    text, equals, claimed = expression.translate(_SIGNS).strip().partition("=")
    if len(text) > MAX_LENGTH:
        return Verdict(Outcome.UNPARSABLE, "length")
    if equals and claimed.strip() != str(int(target)):
        return judged(False, "value")
    try:
        value, used = _Reader(text.replace("\\times", "*").replace("\\div", "/")).read()
    except _Malformed:
        return Verdict(Outcome.UNPARSABLE, "expression")
    except ZeroDivisionError:
        return judged(False, "division")
    if sorted(used) != sorted(int(number) for number in numbers):
        return judged(False, "numbers")
    return judged(value == int(target), "value")


class _Reader:
    """Recursive descent (sum → product → factor) that computes while parsing."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        position, text = 0, text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise _Malformed
            self._tokens.append(match.group(1))
            position = match.end()
        self._at = 0
        self._depth = 0
        self._used: list[int] = []

    def read(self) -> tuple[Fraction, list[int]]:
        value = self._sum()
        if self._peek():
            raise _Malformed
        return value, self._used

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1] if self._at <= len(self._tokens) else ""

    def _sum(self) -> Fraction:
        value = self._product()
        while self._peek() in ("+", "-"):
            value = value + self._product() if self._next() == "+" else value - self._product()
        return value

    def _product(self) -> Fraction:
        value = self._factor()
        while self._peek() in ("*", "/"):
            value = value * self._factor() if self._next() == "*" else value / self._factor()
        return value

    def _factor(self) -> Fraction:
        token = self._next()
        if token.isdigit():
            self._used.append(int(token))
            return Fraction(int(token))
        self._depth += 1
        if self._depth > _MAX_DEPTH or token not in ("(", "-"):
            raise _Malformed
        if token == "-":
            value = -self._factor()
        else:
            value = self._sum()
            if self._next() != ")":
                raise _Malformed
        self._depth -= 1
        return value

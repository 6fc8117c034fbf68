r"""Compares numbers and words exactly, in microseconds, without a worker.

Conventions:

- A comma between groups of exactly three digits separates thousands. Units and currencies: see ``units``.
- A percent sign divides by 100. One side may also omit it: ``50%`` equals ``0.5`` and ``50``; but only from one percent
    up, because a bare 0.5 is not 0.5 %.
- A decimal is exact, but one with at least six decimals and six significant digits also represents a value that rounds
    to it: ``0.333333`` equals ``1/3``, ``0.3333`` does not.
- Words are compared without case, markup and closing full stop; a choice ``(B)``, ``B.`` or ``B) 12`` is the letter B.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from r1rl.verify.text import THOUSANDS
from r1rl.verify.units import factor, split_unit
from r1rl.verify.verdict import Outcome, Verdict, judged

MAX_DIGITS = 1_000
"""Longest number parsed, in digits; also the largest power of ten."""

ROUNDED_DIGITS = 6
"""Least decimals, and significant digits, of a decimal that represents a value that rounds to it."""

_INTEGER = re.compile(r"[+-]?(?:(?!0,)[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)")
_DECIMAL = re.compile(
    r"(?P<mantissa>(?:(?!0,)[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)"
    r"(?:(?:[eE]|\s*(?:\*|\\times|\\cdot)\s*10\s*\^\s*)(?P<brace>\{)?(?P<exponent>[+-]?[0-9]{1,4})(?(brace)\}))?"
)
_PLAIN_FRACTION = re.compile(r"(?:(?P<whole>[0-9]+)\s+)?(?P<top>[0-9]+)\s*/\s*(?P<bottom>[0-9]+)")
_LATEX_FRACTION = re.compile(
    r"(?P<whole>[0-9]+)?\s*\\[dtc]?frac\s*(?:\{\s*(?P<sign>-?)\s*(?P<top>[0-9]+)\s*\}|(?P<digit_top>[0-9]))"
    r"\s*(?:\{\s*(?P<bottom>[0-9]+)\s*\}|(?P<digit_bottom>[0-9]))"
)
_SEPARATOR = re.compile(THOUSANDS)
_COMMA = re.compile(r"(?<=[0-9]),(?=[0-9]+(?![0-9,]))")
_SIGN = re.compile(r"([+-]?)\s*")
_MARKUP = re.compile(r"\\(?:text|mathrm|textbf|mathbf|textit|mathit|operatorname|mbox|textrm|rm)\s*\{([^{}]*)\}")
_WORDS = re.compile(r"[^\W\d_]+(?:(?:[ ,']+|-)[^\W\d_]+)*")
_LONG_WORD = re.compile(r"[^\W\d_]{3}")
_CHOICE = re.compile(r"\(([A-Za-z])\)(?:[.:)]?\s.*)?|([A-Za-z])(?:[.:)](?:\s.*)?)?", re.DOTALL)
_MATHEMATICAL_WORDS = frozenset(["pi", "infinity", "inf", "infty", "sqrt", "alpha", "beta", "gamma", "delta", "theta"])


@dataclass(frozen=True, slots=True)
class Number:
    """An exact value as it was written."""

    value: Fraction
    percent: bool = False
    unit: str = ""
    decimals: int | None = None
    """Digits after the point if there are enough to represent a rounded value; else None."""


def compare_exactly(gold: str, answer: str) -> Verdict | None:
    """Compare two cleaned answers that are numbers or words; None if this path cannot decide."""
    if gold == answer:
        return Verdict(Outcome.CORRECT, "same")
    gold_number = parse_number(gold)
    if gold_number is not None:
        number = parse_number(answer) or _decimal_comma(answer, gold)
        if number is not None:
            return judged(equal_numbers(gold_number, number), "number")
        return judged(False, "number") if parse_words(answer) else None
    gold_words = parse_words(gold)
    if gold_words is None and "," in gold:
        gold_number, number = _decimal_comma(gold, answer), parse_number(answer)
        if gold_number is not None and number is not None and equal_numbers(gold_number, number):
            return judged(True, "number")
    if gold_words is None:
        return _compare_choice(gold, answer)
    words = parse_words(answer)
    if words is None and parse_number(answer) is None:
        return None
    return judged(gold_words == words, "text")


def parse_number(text: str) -> Number | None:
    """The exact value of an integer, decimal, fraction or mixed number with its sign, percent sign and unit."""
    if len(text) > MAX_DIGITS:
        return None
    if _INTEGER.fullmatch(text):
        return Number(Fraction(int(text.replace(",", ""))))
    if not any(character in "0123456789" for character in text):
        return None
    quantity, unit = split_unit(_SEPARATOR.sub("", text).strip())
    sign = _SIGN.match(quantity)
    assert sign is not None  # the pattern matches the empty string
    number = _magnitude(quantity[sign.end() :].strip())
    if number is None:
        return None
    value = -number.value if sign.group(1) == "-" else number.value
    return replace(number, value=value, percent=unit == "%", unit="" if unit == "%" else unit)


def _decimal_comma(text: str, other: str) -> Number | None:
    """``1,22`` as a decimal, where the other side is one with a point; alone it may be two numbers."""
    if "." not in other or not _COMMA.search(text):
        return None
    return parse_number(_COMMA.sub(".", text))


def _magnitude(text: str) -> Number | None:
    decimal = _DECIMAL.fullmatch(text)
    if decimal:
        return _decimal(decimal["mantissa"].replace(",", ""), int(decimal["exponent"] or 0))
    plain = _PLAIN_FRACTION.fullmatch(text)
    if plain:
        return _fraction(plain["whole"], plain["top"], plain["bottom"])
    latex = _LATEX_FRACTION.fullmatch(text)
    if latex is None or (latex["sign"] and latex["whole"]):
        return None
    number = _fraction(latex["whole"], latex["top"] or latex["digit_top"], latex["bottom"] or latex["digit_bottom"])
    return replace(number, value=-number.value) if number and latex["sign"] else number


def _decimal(mantissa: str, exponent: int) -> Number | None:
    if abs(exponent) > MAX_DIGITS:
        return None
    whole, _, places = mantissa.partition(".")
    digits = int((whole + places) or "0")
    decimals = len(places) - exponent
    significant = len(str(digits))
    may_be_rounded = bool(places) and decimals >= ROUNDED_DIGITS and significant >= ROUNDED_DIGITS
    value = Fraction(digits, 10**decimals) if decimals >= 0 else Fraction(digits * 10**-decimals)
    return Number(value, decimals=decimals if may_be_rounded else None)


def _fraction(whole: str | None, top: str, bottom: str) -> Number | None:
    if int(bottom) == 0:
        return None
    return Number(int(whole or 0) + Fraction(int(top), int(bottom)))


def equal_numbers(gold: Number, answer: Number) -> bool:
    """Whether two numbers are the same quantity by the conventions of this module."""
    scale = factor(answer.unit, gold.unit)
    if scale is None:
        return False
    answer = replace(answer, value=answer.value * scale)
    if gold.percent == answer.percent:
        return same_value(gold, answer)
    percent, bare = (gold, answer) if gold.percent else (answer, gold)
    hundredth = replace(percent, value=percent.value / 100, decimals=percent.decimals and percent.decimals + 2)
    return same_value(hundredth, bare) or (abs(percent.value) >= 1 and same_value(percent, bare))


def same_value(first: Number, second: Number) -> bool:
    """Equal exactly, or one is a long decimal to which the other rounds."""
    if first.value == second.value:
        return True
    return any(
        rounded.decimals is not None
        and (other.decimals is None or other.decimals > rounded.decimals)
        and not _terminates_within(other.value, rounded.decimals)
        and abs(rounded.value - other.value) * 2 * 10**rounded.decimals <= 1
        for rounded, other in ((first, second), (second, first))
    )


def _terminates_within(value: Fraction, decimals: int) -> bool:
    """Whether the value is exactly representable with that many decimals; any other decimal of that length is then
    wrong."""
    scale: int = 10**decimals
    return scale % value.denominator == 0


def parse_words(text: str) -> str | None:
    """Prose without digits or mathematics, normalised for comparison; None for anything else."""
    plain, marked = _MARKUP.subn(r"\1", text)
    plain = plain.replace("\\ ", " ").replace("~", " ").strip(" .\"'")
    if len(plain) < 2 or not _WORDS.fullmatch(plain) or not (marked or _LONG_WORD.search(plain)):
        return None
    folded = " ".join(plain.casefold().split())
    return None if folded in _MATHEMATICAL_WORDS else folded


def _compare_choice(gold: str, answer: str) -> Verdict | None:
    """Compare with a one-letter gold answer: the label of a multiple choice, or a variable."""
    letter = _label(gold)
    if letter is None or letter in "ei":  # they may be numbers
        return None
    label = _label(answer)
    if label is not None:
        return judged(letter == label, "choice")
    return judged(False, "choice") if parse_words(answer) is not None or parse_number(answer) is not None else None


def _label(text: str) -> str | None:
    match = _CHOICE.fullmatch(_MARKUP.sub(r"\1", text).replace("\\ ", " ").strip())
    return (match.group(1) or match.group(2)).casefold() if match else None

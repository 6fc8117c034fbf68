"""The exact path: numbers, words and choices without a worker."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1rl.verify.exact import compare_exactly, parse_number
from r1rl.verify.text import Refused, clean


def value(text: str) -> Fraction | None:
    number = parse_number(clean(text))
    return number.value if number else None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("42", 42), ("-7", -7), ("+3", 3), ("1,234,567", 1234567), ("1{,}234", 1234), (r"1\,000", 1000), (".5", "1/2"),
        ("0.50", "1/2"), ("1/3", "1/3"), (r"\frac{1}{3}", "1/3"), (r"\dfrac13", "1/3"), (r"-\frac{1}{3}", "-1/3"),
        (r"\frac{-1}{3}", "-1/3"), (r"2\frac{1}{3}", "7/3"), ("2 1/3", "7/3"), ("-2 1/3", "-7/3"), ("2½", "5/2"),
        ("1e3", 1000), (r"1.5\times10^{3}", 1500), ("1.5 * 10^-3", "3/2000"), ("$18", 18), (r"\$1,000.50", "2001/2"),
        ("18 dollars", 18), (r"5\text{ cm}", 5), ("50%", 50), ("$7$", 7), (r"\boxed{7}", 7), ("7.", 7), ("１２", 12),
        ("−3", -3), ("90^\\circ", 90),
    ],
)  # fmt: skip
def test_values(text: str, expected: int | str) -> None:
    assert value(text) == Fraction(expected)


@pytest.mark.parametrize(
    "text",
    ["1,00", "1,0000", "1 2", "1/0", "1.2.3", "--1", "x", "5x", "5 million", "3 times 4", "1e99999", "0x10",
     "1_000",
     "٤٢", "nan", "inf", "5 and 6", "2^3"],
)  # fmt: skip
def test_no_numbers(text: str) -> None:
    assert value(text) is None


def test_an_empty_answer_is_refused() -> None:
    with pytest.raises(Refused, match="empty"):
        clean(" $ $ ")


@given(st.integers(-(10**40), 10**40), st.integers(1, 10**12))
def test_a_fraction_equals_itself_and_not_its_neighbour(top: int, bottom: int) -> None:
    written = f"\\frac{{{top}}}{{{bottom}}}"
    assert compare_exactly(written, f"{top}/{bottom}")
    assert not compare_exactly(written, f"{top + 1}/{bottom}")


@given(st.integers(-(10**30), 10**30))
def test_thousands_separators_change_nothing(number: int) -> None:
    assert compare_exactly(str(number), f"{number:,}")
    assert compare_exactly(f"{number:,}", str(number))


@given(st.decimals(-(10**9), 10**9, places=8, allow_nan=False))
def test_only_the_decimal_itself_or_its_rounding_matches(number: object) -> None:
    text = f"{number:f}"
    shifted = f"{Fraction(text) + Fraction(1, 10**6)}"
    assert compare_exactly(text, text + "0")
    assert not compare_exactly(text, shifted)


def test_words_and_choices() -> None:
    assert compare_exactly(r"\text{Paris}", "paris")
    assert not compare_exactly("Paris", "London")
    assert compare_exactly("B", "(B)")
    assert compare_exactly("B", "B) 12")
    assert not compare_exactly("A", "B")
    assert compare_exactly("x", "x+1") is None
    assert compare_exactly("e", "2.718282") is None

"""The reader of expressions: what it reads, what it refuses, and that no text reaches an evaluator."""

from __future__ import annotations

from typing import Any

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from r1rl.verify import algebra
from r1rl.verify.bounded import Undecided, Unparsable
from r1rl.verify.expression import read
from r1rl.verify.notation import normalise
from r1rl.verify.symbolic import compare
from tests.support.agreement import PAIRS

x, y = sympy.Symbol("x", real=True), sympy.Symbol("y", real=True)


def parsed(text: str) -> Any:
    return read(normalise(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2(3)", 6), ("(2)(3)", 6), (r"2\frac{1}{2}", sympy.Rational(5, 2)), ("2^3^2", 512), ("-2^2", -4), ("3!", 6),
        ("2x", 2 * x), ("xy", x * y), ("x(x+1)", x * (x + 1)), ("1/2x", 1 / (2 * x)), (r"1/2\cdot x", x / 2),
        (r"\sin 2x", sympy.sin(2 * x)), (r"\sin(2)x", sympy.sin(2) * x), (r"\sin^2 x", sympy.sin(x) ** 2),
        (r"\sin^{-1} x", sympy.asin(x)), (r"\sin x\cos x", sympy.sin(x) * sympy.cos(x)), (r"\log_2 8", 3),
        (r"\log 100", 2), (r"\ln e^2", 2), (r"\sqrt[3]{-8}", -2), ("e^{i\\pi}", -1), (r"|{-3}|", 3),
        (r"\lfloor 2.5 \rfloor", 2), (r"\binom{5}{2}", 10), (r"\max(1,2)", 2), (r"\gcd(12, 18)", 6), ("50\\%", "1/2"),
        (r"\frac12", "1/2"), (r"\sqrt2", sympy.sqrt(2)), ("sqrt(2)/2", sympy.sqrt(2) / 2), ("x**2", x**2),
        ("2*pi", 2 * sympy.pi), (r"\cos 60^\circ", "1/2"), ("0.1+0.2", "3/10"), (r"\left(x\right)^2", x**2),
        ("(-8)^{2/3}", 4), ("x^{-1}", 1 / x), (r"-\frac{-1}{2}", "1/2"), ("2--3", 5), ("2 \\cdot -3", -6),
    ],
)  # fmt: skip
def test_reading(text: str, expected: Any) -> None:
    assert sympy.simplify(parsed(text) - sympy.sympify(expected)) == 0


@pytest.mark.parametrize(
    "text", ["", "2 3", "1.2.3", "x+", "*x", "(x", "x)", r"\frac{1}", r"\unknown{x}", "x_", "_", "^2", "2^", "|x", "f("]
)
def test_refusing(text: str) -> None:
    with pytest.raises(Unparsable):
        read(text)


@pytest.mark.parametrize(
    "text",
    ["9^{9^{9}}", "10000!", "(2^{20})!", "2^{10^{6}}", r"\binom{10^6}{10^5}", "x^{10^7}", "e^{10^{9}}", "x" * 700,
     "(" * 70 + "x" + ")" * 70],
)  # fmt: skip
def test_bounds(text: str) -> None:
    with pytest.raises(Undecided):
        read(text)


@pytest.mark.parametrize("size", [2004, 2006, 4000])
def test_factorials_within_bounds_are_exact(size: int) -> None:
    assert parsed(f"{size}!/{size - 1}!") == size


def test_no_text_reaches_an_evaluator(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **_: Any) -> None:
        raise AssertionError(f"evaluated {arguments!r}")

    monkeypatch.setattr("sympy.parsing.sympy_parser.parse_expr", refuse)
    monkeypatch.setattr("sympy.parsing.sympy_parser.eval_expr", refuse)
    monkeypatch.setattr("latex2sympy2_extended.latex2sympy2.parse_expr", refuse)
    algebra.parse_expression.cache_clear()
    for pair in PAIRS:
        compare(pair.gold, pair.answer)


numbers = st.integers(-9, 9).map(lambda n: f"({n})") | st.sampled_from(["x", "y", r"\pi", r"\sqrt{2}", "e"])
expressions = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-"), inner).map(lambda p: f"({p[0]}{p[1]}{p[2]})"),
        st.tuples(inner, inner).map(lambda p: f"({p[0]}\\cdot {p[1]})"),
        st.tuples(inner, inner).map(lambda p: f"\\frac{{{p[0]}}}{{{p[1]}^2+1}}"),
        inner.map(lambda i: f"{{{i}}}^2"),
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(expressions, expressions)
def test_identities_hold_and_neighbours_differ(a: str, b: str) -> None:
    square = f"({a}+{b})^2"
    assert compare(square, f"({a})^2+2({a})({b})+({b})^2") == ["correct", "algebra"] or compare(square, square)
    assert compare(f"({a})-({b})", f"-(({b})-({a}))")[0] == "correct"
    assert compare(f"{a}+{b}", f"{a}+{b}+10^{{-40}}")[0] == "wrong"

"""Arithmetic with limits on the size of results, checked before computing them."""

from __future__ import annotations

import math
from fractions import Fraction

import sympy

MAX_LOG10 = 30_000.0
"""Largest number that is computed, in digits."""


class Unparsable(ValueError):
    """Text that is not an expression."""


class Undecided(ValueError):
    """Expressions that are too large to compare, or undefined; the argument is the reason."""


def literal(text: str) -> sympy.Rational:
    """The exact value of a decimal literal."""
    value = Fraction(text)
    return sympy.Rational(value.numerator, value.denominator)


def is_matrix(value: sympy.Expr) -> bool:
    """Whether a value is a matrix of expressions."""
    return isinstance(value, sympy.MatrixBase)


def is_series(value: sympy.Sum) -> bool:
    """Whether a sum is infinite and has variables: a function for which sympy rarely, and slowly, finds a closed
    form."""
    return bool(value.free_symbols) and any(sympy.oo in limits for limits in value.limits)


def times(left: sympy.Expr, right: sympy.Expr) -> sympy.Expr:
    """A product of bounded size."""
    if magnitude(left) + magnitude(right) > MAX_LOG10:
        raise Undecided("size")
    return left * right


def power(base: sympy.Expr, exponent: sympy.Expr) -> sympy.Expr:
    """A power of bounded size. Raises Undecided("size")."""
    if is_matrix(base) or is_matrix(exponent):
        return _matrix_power(base, exponent)
    exponent = bounded_exponent(exponent)
    if exponent.is_Rational and magnitude(base) * abs(float(exponent)) > MAX_LOG10:
        raise Undecided("size")
    if base.is_negative and exponent.is_Rational and exponent.q % 2 and not exponent.is_Integer:
        return (-1) ** exponent.p * sympy.Pow(-base, exponent)  # the real root, not the principal one
    return sympy.Pow(base, exponent)


def _matrix_power(base: sympy.ImmutableMatrix, exponent: sympy.Expr) -> sympy.ImmutableMatrix:
    """A small power of a square matrix of rationals; a letter above one may mean its transpose."""
    if is_matrix(exponent) or not exponent.is_Rational:
        raise Unparsable("power of a matrix")
    if not (exponent.is_Integer and -8 <= exponent <= 8 and base.is_square and all(e.is_Rational for e in base.flat())):
        raise Undecided("power of a matrix")
    try:
        return base**exponent
    except sympy.matrices.exceptions.NonInvertibleMatrixError as error:
        raise Undecided("undefined") from error


def factorial(value: sympy.Expr) -> sympy.Expr:
    """n! of bounded size. Raises Undecided("size")."""
    if value.is_Rational and magnitude(value) > 3.9:  # log10 of the largest argument: 8000! has 27,000 digits
        raise Undecided("size")
    return sympy.factorial(value)


def binomial(top: sympy.Expr, bottom: sympy.Expr) -> sympy.Expr:
    """A binomial coefficient of bounded size. Raises Undecided("size")."""
    if max(magnitude(top), magnitude(bottom)) > 4.5:
        raise Undecided("size")
    return sympy.binomial(top, bottom)


def magnitude(value: sympy.Expr) -> float:
    """log10 of the largest numerator or denominator of any rational in an expression."""
    if not is_matrix(value) and value.is_Rational:
        return max(log10(abs(int(value.p))), log10(int(value.q)))
    return max((magnitude(number) for number in value.atoms(sympy.Rational)), default=0.0)


def log10(value: int) -> float:
    """log10 of a positive integer of any size; 0 for 0."""
    if value == 0:
        return 0.0
    return math.log10(value) if value.bit_length() < 1000 else value.bit_length() * 0.30103


def bounded_exponent(exponent: sympy.Expr) -> sympy.Expr:
    """An exponent that is small enough to compute with. Raises Undecided("size")."""
    if magnitude(exponent) > 5.5 or sum(1 for _ in sympy.preorder_traversal(exponent)) > 200:
        raise Undecided("size")
    return exponent

r"""Are two expressions equal? Exactly where that is decidable, never within a tolerance.

Runs in a sandbox worker only. ``expression`` parses the common notation in bounded steps; the rest of LaTeX is left to
latex2sympy's grammar (math-verify's parser), whose tree is limited in size before anything is computed.

How two numbers are compared: rationals exactly; other algebraic numbers by evaluating their difference to more digits
than the root separation bound of Burnikel, Funke, Mehlhorn, Schirra and Schmitt (Algorithmica 55, 2009) allows for a
nonzero one, which is a proof; numbers with π, e, logarithms and the like to at least 300 digits, and to more for larger
constants. Functions are compared at several points with large numerators and denominators, of both signs.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

import mpmath
import sympy
from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy

from r1rl.verify.bounded import MAX_LOG10, Undecided, Unparsable, is_series, log10, magnitude
from r1rl.verify.expression import read, symbol
from r1rl.verify.notation import with_products

MAX_NODES = 600
_DROPPED = re.compile(r"'|[0-9]\s*_")
"""Primes, and indices of numbers."""
_SIDE_BY_SIDE = re.compile(r"[0-9](?:\s*\^\s*\{?\s*\\circ\s*\}?\s*|\s*\\circ\s*|\s+)[0-9]")
_PROSE = re.compile(r"(?:(?<![\\a-zA-Z])[a-zA-Z]{3,}[\s,.;:]+){3}")
MAX_PRECISION = 40_000
"""Largest number of digits to which a difference is evaluated."""
MIN_PRECISION = 300
_FIRST_LOOK = 30
MAX_TERMS = 500
"""Largest number of terms of a series that are summed."""

# Every other one is negative.
_POINTS = (("10007", "3001"), ("-20011", "7013"), ("30013", "40009"), ("-1009", "5003"), ("50021", "90001"))
_SMALL_POINTS = (("13", "7"), ("-11", "5"), ("17", "3"))
"""Values of a variable in an exponent: sympy raises bases to its numerator."""

_SMALL_TERMS = 8
"""Summation stops after this many negligible terms in a row; alternate terms often vanish."""
_UNEVALUATED = (sympy.Integral, sympy.Sum, sympy.Product, sympy.Limit, sympy.Derivative)


class _Grammar(_Latex2Sympy):  # type: ignore[misc]  # latex2sympy has no types
    """latex2sympy's visitor without its ``sympy.Number(text)`` for literals, which uses ``eval``."""

    def parse_number(self, text: str) -> sympy.Rational:
        """A literal as an exact fraction."""
        try:
            value = Fraction(text.replace(",", "").replace(" ", ""))
        except (ValueError, OverflowError) as error:
            raise Unparsable("number") from error
        return sympy.Rational(value.numerator, value.denominator)


@lru_cache(maxsize=512)
def parse_expression(text: str, cased: bool = False) -> Any:
    """The expression (or matrix) in a normalised LaTeX text, computed, with capital letters apart from small ones
    where ``cased``. Raises Unparsable, Undecided."""
    if _PROSE.search(text):  # which the parsers below would read as products of letters, in any order
        raise Unparsable("prose")
    try:
        return read(text, cased)
    except Unparsable:
        return _parse_with_grammar(text)


def _parse_with_grammar(text: str) -> Any:
    """Parse by the grammar for all of LaTeX: first an unevaluated tree, whose size is limited."""
    if _SIDE_BY_SIDE.search(text):  # which the grammar reads as a mixed number
        raise Unparsable("two numbers side by side")
    if _DROPPED.search(text):  # by the grammar, and with them a difference
        raise Unparsable("prime or base")
    try:
        tree = _Grammar(is_real=True).parse(with_products(text))
    except (MemoryError, RecursionError, Unparsable):
        raise
    except Exception as error:  # the grammar and its visitor raise many types, including bare Exception
        raise Unparsable(type(error).__name__) from error
    if not isinstance(tree, sympy.Expr | sympy.MatrixBase):
        raise Unparsable(type(tree).__name__)
    for entry in tree.flat() if isinstance(tree, sympy.MatrixBase) else [tree]:
        _check_size(entry)
    imaginary = symbol("i")
    if imaginary in tree.free_symbols:
        tree = tree.xreplace({imaginary: sympy.I})
    series = {node: sympy.Dummy(real=True) for node in tree.atoms(sympy.Sum) if is_series(node)}
    return tree.xreplace(series).doit().xreplace({stand_in: node for node, stand_in in series.items()})


def equal(gold: Any, answer: Any) -> bool:
    """Whether two parsed expressions (or matrices) are the same. Raises Undecided."""
    if isinstance(gold, sympy.MatrixBase) or isinstance(answer, sympy.MatrixBase):
        return getattr(gold, "shape", None) == getattr(answer, "shape", None) and all(
            equal(g, a) for g, a in zip(gold.flat(), answer.flat(), strict=True)
        )
    return is_zero(gold, answer)


def proportional(gold: tuple[Any, Any], answer: tuple[Any, Any]) -> sympy.Expr | None:
    """The nonzero constant c with (left − right) of the gold relation = c · (left − right) of the answer, or None."""
    ours, theirs = gold[0] - gold[1], answer[0] - answer[1]
    if ours.free_symbols != theirs.free_symbols or not ours.free_symbols:
        return None
    ratio = _ratio_at(ours, theirs, _POINTS[0])
    if ratio is None or ratio == 0:
        return None
    return ratio if is_zero(ours, ratio * theirs) else None


def is_zero(gold: sympy.Expr, answer: sympy.Expr) -> bool:
    """Whether gold − answer vanishes, identically where there are symbols. Raises Undecided."""
    for side in (gold, answer):
        if side.has(sympy.nan, sympy.zoo):
            raise Undecided("undefined")
    if any(_without_sums(side).has(sympy.oo, -sympy.oo) for side in (gold, answer)):
        return bool(gold == answer)
    difference = gold - answer
    if difference == 0:
        return True
    symbols = sorted(gold.free_symbols | answer.free_symbols, key=str)
    if not symbols:
        return _constants_equal(gold, answer)
    if any(not is_series(node) for node in difference.atoms(*_UNEVALUATED)):
        return bool(sympy.simplify(difference) == 0)
    functions = difference.atoms(sympy.core.function.AppliedUndef)
    if functions:
        stand_ins = {call: sympy.Dummy(real=True) for call in functions}
        gold, answer = gold.xreplace(stand_ins), answer.xreplace(stand_ins)
        symbols = sorted(gold.free_symbols | answer.free_symbols, key=str)
    points: tuple[tuple[str, str], ...] = _POINTS[::2] if _has_odd_root(difference) else _POINTS
    powers = [node for node in sympy.preorder_traversal(difference) if _is_exponential(node)]
    if powers:
        points = _SMALL_POINTS
        if any(node.base.free_symbols for node in powers):  # powers like x^x are of positive numbers
            points = _SMALL_POINTS[::2]
    if difference.has(sympy.Sum):
        if gold.free_symbols != answer.free_symbols:
            raise Undecided("series")
        # Most converge only near 0.
        points = tuple((top, bottom + "001") for top, bottom in points)
    for point in points:
        _check_powers(powers, _values(symbols, point))
        if not _equal_at(gold, answer, symbols, point):
            return False
    return True


def _is_exponential(node: sympy.Basic) -> bool:
    return isinstance(node, sympy.Pow) and bool(node.exp.free_symbols) and node.base is not sympy.E


def _check_powers(powers: list[sympy.Pow], values: dict[sympy.Symbol, sympy.Rational]) -> None:
    """Reject powers, outermost first, for whose simplification sympy would build a huge integer.

    Raises Undecided("size").
    """
    for node in reversed(powers):
        base, exponent = node.base.subs(values), node.exp.subs(values)
        if base.is_Rational and exponent.is_Rational and magnitude(base) * abs(int(exponent.p)) > MAX_LOG10:
            raise Undecided("size")


def _has_odd_root(value: sympy.Expr) -> bool:
    """Whether there is a root of odd degree: for negative values sympy takes the complex root, most people the real
    one."""
    return any(node.exp.is_Rational and node.exp.q % 2 and node.exp.q > 1 for node in value.atoms(sympy.Pow))


def _equal_at(gold: sympy.Expr, answer: sympy.Expr, symbols: list[sympy.Symbol], point: tuple[str, str]) -> bool:
    values = _values(symbols, point)
    return _constants_equal(gold.subs(values), answer.subs(values))


def _values(symbols: list[sympy.Symbol], point: tuple[str, str]) -> dict[sympy.Symbol, sympy.Rational]:
    """A generic rational for every symbol: distinct, of the point's sign for every other symbol."""
    top, bottom = int(point[0]), int(point[1])
    return {
        symbol: sympy.Rational((top + 6 * index) * (-1) ** (index % 2 if top < 0 else 0), bottom + 10 * index)
        for index, symbol in enumerate(symbols)
    }


def _ratio_at(ours: sympy.Expr, theirs: sympy.Expr, point: tuple[str, str]) -> sympy.Expr | None:
    values = _values(sorted(ours.free_symbols, key=str), point)
    above, below = ours.subs(values), theirs.subs(values)
    if below == 0 or above.has(sympy.nan, sympy.zoo, sympy.oo) or below.has(sympy.nan, sympy.zoo, sympy.oo):
        return None
    return above / below


def _constants_equal(gold: sympy.Expr, answer: sympy.Expr) -> bool:
    if gold.is_Rational and answer.is_Rational:
        return bool(gold == answer)
    if _undefined(gold) or _undefined(answer):
        return _undefined(gold) and _undefined(answer)
    if not _agree(gold, answer, _FIRST_LOOK):
        return False
    difference = gold - answer
    if difference == 0:
        return True
    digits = max(_separating_digits(difference), MIN_PRECISION)
    if digits > MAX_PRECISION:
        raise Undecided("precision")
    return _agree(gold, answer, digits)


def _undefined(value: sympy.Expr) -> bool:
    return bool(_without_sums(value).has(sympy.nan, sympy.zoo, sympy.oo))


def _without_sums(value: sympy.Expr) -> sympy.Expr:
    """The expression without its sums, as an infinite sum is not an infinite value."""
    sums = value.atoms(sympy.Sum)
    return value.xreplace(dict.fromkeys(sums, sympy.Integer(1))) if sums else value


def _agree(gold: sympy.Expr, answer: sympy.Expr, digits: int) -> bool:
    """Whether both sides, evaluated to that many significant digits, differ only by rounding."""
    ours, theirs = _number(gold, digits + 15), _number(answer, digits + 15)
    with mpmath.workdps(digits + 15):
        scale = max(abs(ours), abs(theirs))
        return bool(scale == 0 or abs(ours - theirs) <= scale * mpmath.mpf(10) ** -digits)


def _number(value: sympy.Expr, digits: int) -> Any:
    """A constant as an mpmath number of that many digits. Raises Undecided if it has no value."""
    if sums := value.atoms(sympy.Sum, sympy.Product):
        value = value.xreplace({node: _added_up(node, digits + 10) for node in sums})
    evaluated = value.evalf(digits, maxn=max(100, 2 * digits))
    if evaluated.free_symbols or _undefined(evaluated):
        raise Undecided("undefined")
    real, imaginary = evaluated.as_real_imag()
    try:
        with mpmath.workdps(digits):
            return mpmath.mpc(real._to_mpmath(_bits(digits)), imaginary._to_mpmath(_bits(digits)))
    except (AttributeError, TypeError, ValueError) as error:
        raise Undecided("no value") from error


def _added_up(series: sympy.Sum | sympy.Product, digits: int) -> sympy.Float:
    """The sum, term by term, of a series whose terms decay at least geometrically. Raises Undecided for other series.

    sympy's own evaluation would compile code, which the sandbox forbids.
    """
    index, start, _ = series.limits[0]
    if isinstance(series, sympy.Product) or len(series.limits) > 1 or not start.is_Integer:
        raise Undecided("series")
    with mpmath.workdps(digits):
        total, small = mpmath.mpf(0), 0
        for at in range(int(start), int(start) + MAX_TERMS):
            term = _number(series.function.subs(index, at), digits)
            total += term
            small = small + 1 if abs(term) <= abs(total) * mpmath.mpf(10) ** -digits else 0
            if small == _SMALL_TERMS and total:
                return sympy.Float(total.real, digits) + sympy.I * sympy.Float(total.imag, digits)
    raise Undecided("series")


def real_number(value: sympy.Expr) -> Any:
    """A constant to 30 digits, as an mpmath number; None if it is not real. Raises Undecided (no value)."""
    number = _number(value, _FIRST_LOOK)
    return number.real if number.imag == 0 else None


def _bits(digits: int) -> int:
    return int(digits * 3.33) + 10


def _separating_digits(value: sympy.Expr) -> int:
    """Significant digits that reveal a nonzero value: proven for algebraic numbers, else a cautious estimate.

    The bound is 1 / (upper^(degree − 1) · lower) for a sum of radicals; log10 of ``upper`` and ``lower`` are carried.
    """
    upper, lower = _separation(value)
    degree = 1.0
    for node in value.atoms(sympy.Pow):
        if node.exp.is_Rational and not node.exp.is_Integer:
            degree *= int(node.exp.q)
    digits = upper * (degree - 1) + lower + upper
    return math.ceil(min(digits, 10.0 * MAX_PRECISION)) + 20


def _separation(value: sympy.Expr) -> tuple[float, float]:
    """(log10 u, log10 l) of the bound's recursion for +, ·, rational powers; constants like π count as 4."""
    if value.is_Rational:
        return log10(abs(int(value.p))), log10(int(value.q))
    if value.is_Add:
        sides = [_separation(argument) for argument in value.args]
        lower = sum(low for _, low in sides)
        return max(up + lower - low for up, low in sides) + log10(len(sides)), lower
    if value.is_Mul:
        sides = [_separation(argument) for argument in value.args]
        return sum(up for up, _ in sides), sum(low for _, low in sides)
    if value.is_Pow and value.exp.is_Rational:
        upper, lower = _separation(value.base)
        power = float(value.exp)
        if power < 0:
            upper, lower, power = lower, upper, -power
        root = int(value.exp.q)
        if root == 1:
            return upper * power, lower * power
        times = power * root
        return max(upper, lower) * times, max(upper, lower) * times
    inner = [_separation(argument) for argument in value.args if isinstance(argument, sympy.Expr)]
    return sum(up for up, _ in inner) + 1, sum(low for _, low in inner) + 1


def _check_size(tree: Any) -> None:
    """Reject a tree whose numbers would be too large to compute. Raises Undecided("size")."""
    count = sum(1 for _ in sympy.preorder_traversal(tree))
    if count > MAX_NODES or _size(tree) > MAX_LOG10:
        raise Undecided("size")


def _size(tree: Any) -> float:
    """An upper bound for log10 of the largest number in the evaluation of a tree; infinite if it cannot be
    estimated."""
    if isinstance(tree, sympy.Rational):
        return max(log10(abs(int(tree.p))), log10(int(tree.q)), 0.3)
    sizes = [_size(argument) for argument in tree.args]
    if isinstance(tree, sympy.Pow | sympy.exp):
        base, power = (sizes[0], tree.args[1]) if isinstance(tree, sympy.Pow) else (0.5, tree.args[0])
        exponent = 10 ** min(_size(power), 300.0) if not power.free_symbols else 10 ** min(_literal(power), 300.0)
        return max([*sizes, base * max(1.0, exponent)])
    if isinstance(tree, sympy.factorial | sympy.factorial2 | sympy.gamma | sympy.binomial):
        argument = 10 ** min(max(sizes), 300.0)
        return (
            argument * max(1.0, math.log10(argument)) if argument < 1e100 and not tree.free_symbols else 10 * max(sizes)
        )
    if isinstance(tree, sympy.Mul):
        return sum(sizes)
    return max(sizes, default=0.3)


def _literal(power: Any) -> float:
    """log10 of the largest literal in an exponent with symbols: x^{10^9} is as unwieldy as 2^{10^9}."""
    return max((log10(abs(int(number.p))) for number in power.atoms(sympy.Rational) if number), default=0.0)


def rounds_to(value: Any, decimal: Any, decimals: int) -> bool:
    """Whether a constant, exactly, lies within half a unit of a decimal's last place."""
    if not isinstance(value, sympy.Expr) or value.free_symbols or value.is_Rational:
        return False
    number = _number(value, decimals + 40)
    with mpmath.workdps(decimals + 40):
        distance = abs(number - mpmath.mpf(decimal.numerator) / decimal.denominator)
        return bool(distance * 2 * mpmath.mpf(10) ** decimals <= 1)

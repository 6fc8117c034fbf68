r"""Parses a scalar expression in normalised LaTeX into sympy; it computes while parsing, within fixed limits.

A recursive-descent parser for the usual notation of answers: literals, letters, fractions, roots, powers,
factorials, elementary functions. It is about twenty times faster than a grammar for all of LaTeX, to which ``algebra``
falls back for the rest (integrals, sums, limits, …). No text reaches ``sympify``: literals become exact rationals,
names become symbols, commands are looked up in tables.

Precedence: juxtaposition binds tighter than a slash, so ``1/2x`` is 1/(2x), as math-verify reads it; a function applies
    to the product that follows it; ``2\frac{1}{2}`` is a mixed number.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import reduce
from operator import add

import sympy

from r1rl.verify.bounded import (
    Undecided,
    Unparsable,
    binomial,
    bounded_exponent,
    factorial,
    is_matrix,
    is_series,
    literal,
    power,
    times,
)

MAX_TOKENS = 600
MAX_DEPTH = 60

_TOKEN = re.compile(
    r"\s*(?:([0-9]+(?:\.[0-9]*)?|\.[0-9]+)|\\(text|overline|vec|bar|hat|tilde|overrightarrow|widehat|dot)\s*\{([^{}]*)\}"
    r"|(\\[a-zA-Z]+|\\[%|\\])|([a-zA-Z]|[-+/^_!(){}\[\]|',%&=]))"
)
_DERIVATIVE = re.compile(r"\\frac\s*\{\s*(?:d|\\partial)\b")
_SYMBOL_COMMANDS = frozenset(
    """alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho varrho sigma tau
    upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell hbar angle triangle
    square""".split()  # noqa: SIM905 (a table of names reads better as one text)
)
_CONSTANTS = {"\\pi": sympy.pi, "\\infty": sympy.oo, "e": sympy.E, "i": sympy.I, "\\imath": sympy.I}
_FUNCTIONS: dict[str, Callable[..., sympy.Expr]] = {
    "sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan, "cot": sympy.cot, "sec": sympy.sec, "csc": sympy.csc,
    "arcsin": sympy.asin, "arccos": sympy.acos, "arctan": sympy.atan, "arccot": sympy.acot, "sinh": sympy.sinh,
    "cosh": sympy.cosh, "tanh": sympy.tanh, "ln": sympy.log, "exp": sympy.exp,
}  # fmt: skip
_INVERSES: dict[str, Callable[..., sympy.Expr]] = {
    "sin": sympy.asin, "cos": sympy.acos, "tan": sympy.atan, "cot": sympy.acot, "sec": sympy.asec, "csc": sympy.acsc,
    "sinh": sympy.asinh, "cosh": sympy.acosh, "tanh": sympy.atanh,
}  # fmt: skip
_MANY: dict[str, Callable[..., sympy.Expr]] = {
    "max": sympy.Max, "min": sympy.Min, "gcd": lambda *a: sympy.gcd_list(a), "lcm": lambda *a: sympy.lcm_list(a),
}  # fmt: skip
_BRACKETS = {"(": ")", "[": "]", "{": "}", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil"}
_WRAPPERS: dict[str, Callable[[sympy.Expr], sympy.Expr]] = {
    "|": sympy.Abs, "\\|": sympy.Abs, "\\lfloor": sympy.floor, "\\lceil": sympy.ceiling,
}  # fmt: skip
_CALLED = frozenset("fghPFG")
_TIMES = frozenset(("\\cdot", "\\times"))
_OVER = frozenset(("/", "\\div"))
_SEPARATORS = frozenset((",", "&", "\\\\", "=", "\\end"))
_ENDS = frozenset(("+", "-", ")", "]", "}", "|", "\\|", "\\rfloor", "\\rceil", "")) | _SEPARATORS | _TIMES | _OVER
_MATRICES = frozenset(("matrix", "pmatrix", "bmatrix", "Bmatrix", "smallmatrix", "array"))


def read(text: str, cased: bool = False) -> sympy.Expr:
    """Parse the whole text as one expression; ``x`` and ``X`` are one variable unless ``cased``.

    Raises Unparsable, and Undecided if it is too large to compute.
    """
    if _DERIVATIVE.search(text):
        raise Unparsable("derivative")
    reader = _Reader(_tokens(text), cased)
    try:
        value = reader.sum()
    except (AttributeError, TypeError, sympy.ShapeError) as error:  # of a matrix, where that is not possible
        raise Unparsable("matrix") from error
    reader.expect("")
    return value


def symbol(name: str, cased: bool = False) -> sympy.Symbol:
    """A real variable; names are case-insensitive unless ``cased``, as models are careless about case."""
    return sympy.Symbol(name if cased else name.lower(), real=True)


def _tokens(text: str) -> list[tuple[str, str]]:
    """(kind, text) pairs: ``number``, ``name`` or ``sign``."""
    tokens: list[tuple[str, str]] = []
    position = 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise Unparsable("token")
        if len(tokens) >= MAX_TOKENS:
            raise Undecided("size")
        number, accent, accented, command, character = match.groups()
        if number is not None:
            tokens.append(("number", number))
        elif accent is not None:
            tokens.append(("name", accented.strip() if accent == "text" else f"{accent}({accented.strip()})"))
        else:
            tokens.append(("sign", command or character))
        position = match.end()
    return tokens


class _Reader:
    """Recursive descent over tokens; every method returns the computed value of what it parsed."""

    def __init__(self, tokens: list[tuple[str, str]], cased: bool) -> None:
        self._tokens = [*tokens, ("sign", "")]
        self._cased = cased
        self._at = 0
        self._depth = 0

    def sum(self) -> sympy.Expr:
        terms = [self._signed_term()]
        while self._sign() in ("+", "-"):
            terms.append(self._signed_term())
        return reduce(add, terms) if any(map(is_matrix, terms)) else sympy.Add(*terms)

    def expect(self, sign: str) -> None:
        if self._sign() != sign:
            raise Unparsable(f"expected {sign or 'the end'}")
        self._at += 1

    def _sign(self) -> str | None:
        kind, text = self._tokens[self._at]
        return text if kind == "sign" else None

    def _take(self, *signs: str) -> bool:
        if self._sign() in signs:
            self._at += 1
            return True
        return False

    def _signed_term(self) -> sympy.Expr:
        negative = False
        while self._sign() in ("+", "-"):
            negative ^= self._sign() == "-"
            self._at += 1
        value = self._term()
        return -value if negative else value

    def _term(self) -> sympy.Expr:
        """Factors joined by explicit signs, left to right."""
        value = self._product()
        while (sign := self._sign()) in _TIMES or sign in _OVER:
            self._at += 1
            negative = self._take("-")
            other = self._product()
            other = -other if negative else other
            value = times(value, other if sign in _TIMES else power(other, sympy.Integer(-1)))
        return value

    def _product(self) -> sympy.Expr:
        """Juxtaposed factors."""
        value = self._mixed_number()
        if value is None:
            value = self._factor()
        while self._sign() not in _ENDS:
            if self._tokens[self._at][0] == "number" and self._tokens[self._at - 1][0] == "number":
                raise Unparsable("two numbers side by side")
            value = times(value, self._factor())
        return value

    def _mixed_number(self) -> sympy.Expr | None:
        r"""``2\frac{1}{2}``: an integer before a fraction of literals."""
        window = self._tokens[self._at : self._at + 8]
        signs = [text for _, text in window]
        if len(window) < 8 or signs[1:3] + signs[4:6] + signs[7:] != ["\\frac", "{", "}", "{", "}"]:
            return None
        if [window[index][0] for index in (0, 3, 6)] != ["number"] * 3 or "." in signs[0] + signs[3] + signs[6]:
            return None
        self._at += 8
        if int(signs[6]) == 0:
            raise Undecided("undefined")
        return sympy.Integer(int(signs[0])) + sympy.Rational(int(signs[3]), int(signs[6]))

    def _factor(self) -> sympy.Expr:
        """An atom with its factorials, percent signs and exponents."""
        value = self._atom()
        while True:
            if self._take("!"):
                value = factorial(value)
            elif self._take("%", "\\%"):
                value = value / 100
            elif self._take("^"):
                value = power(value, self._exponent())
            else:
                return value

    def _exponent(self) -> sympy.Expr:
        """An exponent; a tower is evaluated from the top, ``2^3^2`` as 2^9."""
        value = self._argument()
        return power(value, self._exponent()) if self._take("^") else value

    def _argument(self) -> sympy.Expr:
        """A braced expression, or one token, as after ``^``."""
        if self._take("{"):
            value = self.sum()
            self.expect("}")
            return value
        return self._atom()

    def _atom(self) -> sympy.Expr:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Undecided("nesting")
        value = self._read_atom()
        self._depth -= 1
        return value

    def _read_atom(self) -> sympy.Expr:
        kind, text = self._tokens[self._at]
        self._at += 1
        if kind == "number":
            return literal(text)
        if kind == "name":
            return symbol(text + self._index(), self._cased)
        if text in _WRAPPERS:
            return self._wrapped(text)
        if text in _BRACKETS:
            value = self.sum()
            self.expect(_BRACKETS[text])
            return value
        if text in _CONSTANTS and self._sign() != "_":
            return _CONSTANTS[text]
        if text.startswith("\\"):
            return self._command(text[1:])
        if text.isalpha():
            return self._variable(text)
        raise Unparsable(text or "the end")

    def _wrapped(self, opening: str) -> sympy.Expr:
        value = self.sum()
        self.expect(_BRACKETS.get(opening, opening))
        return _WRAPPERS[opening](value)

    def _variable(self, name: str) -> sympy.Expr:
        name += self._index()
        while self._take("'"):
            name += "'"
        if name[0] in _CALLED and self._sign() == "(":
            return sympy.Function(name)(*self._arguments())
        return symbol(name, self._cased)

    def _index(self) -> str:
        """The text of a subscript; it is part of the name."""
        if not self._take("_"):
            return ""
        if not self._take("{"):
            if self._sign() == "":
                raise Unparsable("index")
            self._at += 1
            return "_" + self._tokens[self._at - 1][1]
        self._at -= 1
        return "_" + self._group()

    def _command(self, name: str) -> sympy.Expr:
        if name in _FUNCTIONS or name == "log":
            return self._function(name)
        if name in _MANY:
            return _MANY[name](*self._arguments())
        if name == "frac":
            top, bottom = self._argument(), self._argument()
            return times(top, power(bottom, sympy.Integer(-1)))
        if name == "sqrt":
            return self._root()
        if name == "binom":
            return binomial(self._argument(), self._argument())
        if name == "sum":
            return self._series()
        if name == "begin":
            return self._matrix()
        if name in _SYMBOL_COMMANDS:
            return symbol(name + self._index())
        raise Unparsable(f"\\{name}")

    def _root(self) -> sympy.Expr:
        degree: sympy.Expr = sympy.Integer(2)
        if self._take("["):
            degree = self.sum()
            self.expect("]")
        return power(self._argument(), 1 / degree)

    def _series(self) -> sympy.Expr:
        r"""``\\sum_{n=a}^{\\infty}`` of the term that follows; finite ones are left to the grammar."""
        self.expect("_")
        self.expect("{")
        index = self._atom()
        self.expect("=")
        start = self.sum()
        self.expect("}")
        self.expect("^")
        if not index.is_Symbol or self._argument() != sympy.oo:
            raise Unparsable("sum")
        value = sympy.Sum(self._term(), (index, start, sympy.oo))
        return value if is_series(value) else value.doit()

    def _matrix(self) -> sympy.ImmutableMatrix:
        """Rows up to the end of the environment, from within its name."""
        if (name := self._group()) not in _MATRICES:
            raise Unparsable(name)
        if name == "array" and self._sign() == "{":
            self._group()
        rows = [[self.sum()]]
        while self._sign() in ("&", "\\\\"):
            self._at += 1
            if self._tokens[self._at - 1][1] == "&":
                rows[-1].append(self.sum())
            elif self._sign() != "\\end":
                rows.append([self.sum()])
        self.expect("\\end")
        if self._group() != name or len({len(row) for row in rows}) > 1:
            raise Unparsable("matrix")
        return sympy.ImmutableMatrix(rows)

    def _group(self) -> str:
        """The text between braces."""
        self.expect("{")
        start = self._at
        while self._sign() not in ("}", "{", ""):
            self._at += 1
        self.expect("}")
        return "".join(text for _, text in self._tokens[start : self._at - 1])

    def _function(self, name: str) -> sympy.Expr:
        """A function of what follows, with an optional exponent or base in between."""
        base, exponent = None, None
        while self._sign() in ("^", "_"):
            if self._take("_"):
                base = self._argument()
            elif self._take("^"):
                exponent = self._argument()
        inner = self._operand()
        if name == "log":
            value = sympy.log(inner, 10 if base is None else base)
        elif base is not None:
            raise Unparsable("index of a function")
        elif exponent == -1 and name in _INVERSES:
            return _INVERSES[name](inner)
        else:
            value = _FUNCTIONS[name](bounded_exponent(inner) if name == "exp" else inner)
        return value if exponent is None else power(value, exponent)

    def _operand(self) -> sympy.Expr:
        """The argument of a function: a bracket, or the following product up to the next function."""
        if self._sign() == "(":
            return self._atom()
        if self._take("{"):
            value = self.sum()
            self.expect("}")
            return value
        negative = self._take("-")
        value = self._mixed_number() or self._factor()
        while self._sign() not in _ENDS and not self._at_function() and self._sign() != "(":
            value = times(value, self._factor())
        return -value if negative else value

    def _at_function(self) -> bool:
        sign = self._sign()
        return sign is not None and sign.startswith("\\") and (sign[1:] in _FUNCTIONS or sign == "\\log")

    def _arguments(self) -> list[sympy.Expr]:
        """A bracketed list of expressions."""
        self.expect("(")
        values = [self.sum()]
        while self._take(","):
            values.append(self.sum())
        self.expect(")")
        return values

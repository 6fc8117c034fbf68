r"""Decides whether two structures are the same answer. The rules:

- Bare lists and sets are unordered; tuples are ordered; a bare list may represent a tuple in its order. A set is not
  a tuple. Brackets of pairs matter: (1, 2) is not [1, 2].
- ``x = 5`` and ``5`` answer each other; ``y = 5`` never answers ``x = 5``.
- Equations are equal if one is a nonzero multiple of the other, inequalities if one is a positive multiple.
- An inequality in one variable is the interval it describes.
"""

from __future__ import annotations

import re
from fractions import Fraction

import sympy

from r1rl.verify import algebra, sets
from r1rl.verify.bounded import Undecided
from r1rl.verify.exact import compare_exactly, parse_number, parse_words
from r1rl.verify.sets import FLIPPED, canonical, expression, interval_of
from r1rl.verify.structure import Items, Leaf, Matrix, Parsed, Relation, Sets, is_name
from r1rl.verify.units import factor, split_unit

_TIME = re.compile(
    r"0?([0-9]{1,2}:[0-5][0-9](?::[0-5][0-9])?)\s*(?:\\text\{)?\s*(?:([ap])\.?\s?m\.?)?\}?", re.IGNORECASE
)
_RATIO = re.compile(r"[0-9]+(?:\s*(?::|\\colon)\s*[0-9]+)+")
_BASED = re.compile(r"\(?([0-9A-Za-z]{1,200})\)?_\{?\s*([0-9]{1,2})\s*\}?")
_LETTER = re.compile(r"(?<!\\)(?<![a-zA-Z])[a-zA-Z]")
_COMMAND = re.compile(r"\\[a-zA-Z]+(?:\s*\{[a-zA-Z ]*\})?")
_DOUBLED = re.compile(r"(?<![\\a-zA-Z])([a-zA-Z])\1(?![a-zA-Z])")
_DIGIT = re.compile(r"[0-9]")
_INDEX = re.compile(r"_(?:\{[^{}]*\}|\w)")
_UNIT = re.compile(r"\\text\s*\{|\\circ|\\%|%|\\euro|\\pounds")


class Comparison:
    """One comparison; ``path`` names the rule that decided it."""

    def __init__(self) -> None:
        self.path = "structure"

    def equal(self, gold: Parsed, answer: Parsed) -> bool:
        """Whether the answer is the gold one. Raises Unparsable and Undecided."""
        gold, answer = canonical(gold), canonical(answer)
        if gold == answer:
            return True
        if isinstance(gold, Relation) or isinstance(answer, Relation):
            return self._relations(gold, answer)
        if isinstance(gold, Leaf) and isinstance(answer, Leaf):
            return self._leaves(gold.text, answer.text)
        if isinstance(gold, Matrix) and isinstance(answer, Matrix):
            return self._matrices(gold, answer)
        if {type(gold), type(answer)} == {Matrix, Leaf}:
            self.path = "algebra"
            return algebra.equal(expression(gold), expression(answer))
        if isinstance(gold, Sets) or isinstance(answer, Sets):
            return self._sets(gold, answer)
        if isinstance(gold, Items) and isinstance(answer, Items):
            return self._items(gold, answer)
        return False

    def _items(self, gold: Items, answer: Items) -> bool:
        if gold.kind == answer.kind == "tuple":
            return _same_brackets(gold, answer) and self._in_order(gold.items, answer.items)
        if "set" in (gold.kind, answer.kind):
            if "tuple" in (gold.kind, answer.kind):
                return False
            return self._matched(self._distinct(gold.items), self._distinct(answer.items))
        if gold.kind == "tuple":
            return gold.brackets == "()" and self._in_order(gold.items, answer.items)
        if _all_tuples(gold) and _all_tuples(answer):  # the solutions of a system
            return self._matched(self._distinct(gold.items), self._distinct(answer.items))
        return answer.brackets in ("", "()") and self._matched(gold.items, answer.items)

    def _in_order(self, gold: tuple[Parsed, ...], answer: tuple[Parsed, ...]) -> bool:
        return len(gold) == len(answer) and all(self.equal(g, a) for g, a in zip(gold, answer, strict=True))

    def _matched(self, gold: tuple[Parsed, ...], answer: tuple[Parsed, ...]) -> bool:
        """Whether the items pair up in some order; as equality is transitive, taking the first partner suffices."""
        left = list(answer)
        if len(gold) != len(left):
            return False
        for item in gold:
            partner = next((index for index, other in enumerate(left) if self.equal(item, other)), None)
            if partner is None:
                return False
            del left[partner]
        return True

    def _distinct(self, items: tuple[Parsed, ...]) -> tuple[Parsed, ...]:
        kept: list[Parsed] = []
        for item in items:
            if not any(self.equal(item, other) for other in kept):
                kept.append(item)
        return tuple(kept)

    def _matrices(self, gold: Matrix, answer: Matrix) -> bool:
        return len(gold.rows) == len(answer.rows) and all(
            self._in_order(ours, theirs) for ours, theirs in zip(gold.rows, answer.rows, strict=True)
        )

    def _sets(self, gold: Parsed, answer: Parsed) -> bool:
        if isinstance(gold, Sets) and isinstance(answer, Sets) and gold.kind == answer.kind == "union":
            try:
                if self._matched(gold.parts, answer.parts):
                    return True
            except Undecided:
                pass  # the sets may still be comparable as sets
        self.path = "sets"
        return sets.same(gold, answer)

    def _relations(self, gold: Parsed, answer: Parsed) -> bool:
        """At least one side is a relation."""
        if isinstance(gold, Relation) and gold.operators[-1] == "~":
            return self.equal(_exactly(gold), answer) or self._rounded_to(answer, gold)
        if isinstance(answer, Relation) and answer.operators[-1] == "~":
            return self.equal(gold, _exactly(answer)) or self._rounded_to(gold, answer)
        if isinstance(gold, Relation) and isinstance(answer, Relation):
            return self._two_relations(gold, answer)
        relation, other = (gold, answer) if isinstance(gold, Relation) else (answer, gold)
        assert isinstance(relation, Relation)
        value = _value_of(relation, strict=relation is gold)
        if value is not None:
            return self.equal(value, other) if relation is gold else self.equal(other, value)
        if set(relation.operators) == {"="}:
            return self._worked(relation, other)
        described = interval_of(relation)
        return described is not None and not isinstance(other, Leaf) and self.equal(described[1], other)

    def _rounded_to(self, other: Parsed, relation: Relation) -> bool:
        """``x = 10/3 ≈ 3.33`` also counts as 3.33, because 10/3 rounds to it."""
        exact, rounded = relation.sides[-2:]
        if not isinstance(exact, Leaf) or not isinstance(rounded, Leaf):
            return False
        number = parse_number(rounded.text)
        if number is None or number.unit or number.percent or not self.equal(other, rounded):
            return False
        value = expression(exact)
        error = sympy.Abs(value - sympy.Rational(number.value.numerator, number.value.denominator))
        places = len(rounded.text.partition(".")[2].strip())
        return not value.free_symbols and bool(error * 2 * 10**places <= 1)

    def _worked(self, relation: Relation, value: Parsed) -> bool:
        """``1/2 + 1/3 = 5/6`` counts as ``5/6``, because the equation holds."""
        return all(self.equal(value, side) for side in relation.sides)

    def _two_relations(self, gold: Relation, answer: Relation) -> bool:
        ours, theirs = _named(gold), _named(answer)
        if ours and theirs and ours[0] == theirs[0]:
            return self.equal(ours[1], theirs[1])
        spans = interval_of(gold), interval_of(answer)
        if spans[0] and spans[1]:
            return spans[0][0] == spans[1][0] and self.equal(spans[0][1], spans[1][1])
        if len(gold.operators) != 1 or len(answer.operators) != 1:
            return gold.operators == answer.operators and self._in_order(gold.sides, answer.sides)
        return self._multiples(gold, answer)

    def _multiples(self, gold: Relation, answer: Relation) -> bool:
        if not all(isinstance(side, Leaf) for side in (*gold.sides, *answer.sides)):
            return gold.operators == answer.operators and self._in_order(gold.sides, answer.sides)
        ours = expression(gold.sides[0]), expression(gold.sides[1])
        theirs = expression(answer.sides[0]), expression(answer.sides[1])
        self.path = "equation"
        ratio = algebra.proportional(ours, theirs)
        if ratio is None:
            return False
        if gold.operators == answer.operators and gold.operators[0] in ("=", "!="):
            return True
        wanted = answer.operators[0] if ratio.is_positive else FLIPPED.get(answer.operators[0])
        return bool(ratio.is_real) and gold.operators[0] == wanted

    def _leaves(self, gold: str, answer: str) -> bool:
        if gold == answer:
            return True
        exact = compare_exactly(gold, answer)
        if exact is not None:
            self.path = exact.path
            return bool(exact)
        for rule in (_times, _ratios, _based):
            decided = rule(gold, answer)
            if decided is not None:
                self.path = "notation"
                return decided
        return self._expressions(gold, answer)

    def _expressions(self, gold: str, answer: str) -> bool:
        scale = sympy.Integer(1)
        if _UNIT.search(gold) or _UNIT.search(answer):
            (gold, gold_unit), (answer, unit) = split_unit(gold), split_unit(answer)
            found = _scale(gold, gold_unit, answer, unit)
            if found is None:
                return False
            scale = found
        if parse_words(gold) or parse_words(answer):
            self.path = "text"
            return False
        self.path = "algebra"
        cased = _case_matters(gold) or _case_matters(answer)
        ours, theirs = algebra.parse_expression(gold, cased), algebra.parse_expression(answer, cased)
        theirs = theirs if scale == 1 else theirs * scale
        return algebra.equal(ours, theirs) or self._rounded(gold, answer, ours, theirs)

    def _rounded(self, gold: str, answer: str, ours: sympy.Expr, theirs: sympy.Expr) -> bool:
        """A long decimal may represent an irrational value that rounds to it."""
        for text, value in ((gold, theirs), (answer, ours)):
            number = parse_number(text)
            if number is not None and number.decimals is not None:
                self.path = "rounding"
                return algebra.rounds_to(value, number.value, number.decimals)
        return False


def _case_matters(text: str) -> bool:
    """Whether letters occur in both cases, or doubled, as in genotypes; elsewhere models are careless about case."""
    letters = set(_COMMAND.sub(" ", text))
    return any("A" <= letter <= "Z" and letter.lower() in letters for letter in letters) or bool(_DOUBLED.search(text))


def _all_tuples(items: Items) -> bool:
    return items.kind == "list" and all(isinstance(item, Items) and item.kind == "tuple" for item in items.items)


def _exactly(relation: Relation) -> Parsed:
    """The relation without the rounded value at its end; the value itself if nothing else remains."""
    sides, operators = relation.sides[:-1], relation.operators[:-1]
    return Relation(sides, operators) if operators else sides[0]


def _same_brackets(gold: Items, answer: Items) -> bool:
    return gold.brackets == answer.brackets or (
        len(gold.items) > 2 and {gold.brackets, answer.brackets} <= {"()", "[]"}
    )


def _named(relation: Relation) -> tuple[str, Parsed] | None:
    """(name, value) of ``name = value``; for a chain ``name = … = value`` the last value."""
    first = relation.sides[0]
    if set(relation.operators) <= {"="} or relation.operators == ("in",):
        if isinstance(first, Leaf) and is_name(first.text):
            return "".join(first.text.split()).lower(), relation.sides[-1]
        last = relation.sides[-1]
        if len(relation.sides) == 2 and isinstance(last, Leaf) and is_name(last.text):
            return "".join(last.text.split()).lower(), first
    return None


def _value_of(relation: Relation, strict: bool) -> Parsed | None:
    """The value that a relation assigns to its left side. The left side of an answer must contain letters, that of a
    gold answer also no digits."""
    named = _named(relation)
    if named is not None:
        return named[1]
    if set(relation.operators) != {"="}:
        return None
    first, inner = relation.sides[0], relation.sides[-2]
    if len(relation.sides) > 2 and isinstance(inner, Leaf) and is_name(inner.text):
        return relation.sides[-1]
    if not isinstance(first, Leaf) or not _LETTER.search(first.text):
        return None
    return None if strict and _DIGIT.search(_INDEX.sub("", first.text)) else relation.sides[-1]


def _scale(gold: str, gold_unit: str, answer: str, unit: str) -> sympy.Expr | None:
    r"""The factor that converts the answer to the gold unit; degrees become radians beside a bare ``\pi``."""
    if gold_unit == unit:
        return sympy.Integer(1)
    if "%" in (gold_unit, unit):
        return sympy.Rational(1, 100) if unit == "%" else sympy.Integer(100)
    if {gold_unit, unit} == {"degree", ""} and "\\pi" in (gold if unit else answer):
        return sympy.pi / 180 if unit else 180 / sympy.pi
    found = factor(unit, gold_unit)
    return None if found is None else sympy.Rational(found.numerator, found.denominator)


def _times(gold: str, answer: str) -> bool | None:
    """Times of day, such as ``12:00`` or ``3:45 PM``, equal only themselves; AM or PM may be left out."""
    ours, theirs = _TIME.fullmatch(gold), _TIME.fullmatch(answer)
    if not ours and not theirs:
        return None
    if ours and theirs:
        halves = {half.lower() for half in (ours[2], theirs[2]) if half}
        return ours[1] == theirs[1] and len(halves) < 2
    return None if _RATIO.fullmatch(answer) and not (ours and ours[2]) else False


def _ratios(gold: str, answer: str) -> bool | None:
    """``2:3`` equals ``4:6``; a ratio of two terms also equals the fraction ``2/3``."""
    if not _RATIO.fullmatch(gold):
        return None
    ours = _terms(gold)
    if _RATIO.fullmatch(answer):
        theirs = _terms(answer)
        scaled = [(a * theirs[0], b * ours[0]) for a, b in zip(ours, theirs, strict=False)]
        return len(ours) == len(theirs) and ours[0] > 0 and theirs[0] > 0 and all(a == b for a, b in scaled)
    number = parse_number(answer)
    if number is None:
        return None
    return len(ours) == 2 and ours[1] > 0 and number.value == Fraction(ours[0], ours[1])


def _terms(text: str) -> list[int]:
    return [int(term) for term in re.findall(r"[0-9]+", text)]


def _based(gold: str, answer: str) -> bool | None:
    """Numbers with their base: ``1011_2``; if one side omits the base, the digits are compared."""
    ours, theirs = _BASED.fullmatch(gold), _BASED.fullmatch(answer)
    if not ours and not theirs:
        return None
    try:
        if ours and theirs:
            return int(ours[1], int(ours[2])) == int(theirs[1], int(theirs[2]))
        based, bare = (ours, answer) if ours else (theirs, gold)
        assert based is not None
        int(based[1], int(based[2]))
    except ValueError:  # not a numeral of that base: perhaps a variable with an index
        return None
    return based[1].lower() == bare.strip().lower() if re.fullmatch(r"[0-9A-Za-z]+", bare.strip()) else None

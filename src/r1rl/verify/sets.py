"""Answers as sets of reals: inequalities as intervals; unions, intersections and differences compared as sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce

import sympy

from r1rl.verify import algebra
from r1rl.verify.bounded import Unparsable
from r1rl.verify.exact import parse_words
from r1rl.verify.structure import Items, Leaf, Matrix, Parsed, Relation, Sets, is_name

FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}
_EMPTY_WORDS = frozenset(("no solution", "no solutions", "no real solution", "no real solutions", "empty set", "none"))
_REAL_WORDS = frozenset(("all real numbers", "all reals", "the real numbers", "any real number", "real numbers"))


def same(gold: Parsed, answer: Parsed) -> bool:
    """Whether two nodes are the same set of reals; False where one is not a set. Raises Unparsable and Undecided.

    The results of ∪, ∩ and ∖ depend only on the order of the end points, so these are sorted once and sets of their
    ranks are compared: sympy's own sets would compare the same constants again and again.
    """
    values = [list(_values(node)) for node in (gold, answer)]
    if None in values[0] or None in values[1]:
        return False
    letters = [set().union(*(value.free_symbols for value in side if value is not None)) for side in values]
    if letters[0] != letters[1]:
        return False
    places = _places([value for side in values for value in side if value is not None])
    ours, theirs = _as_set(gold, places), _as_set(answer, places)
    return bool(ours == theirs or ours.symmetric_difference(theirs) == sympy.S.EmptySet)


def canonical(node: Parsed) -> Parsed:
    """Named sets as sets; one-element sets and lists as their element."""
    if isinstance(node, Leaf):
        words = parse_words(node.text) if "\\text" in node.text or node.text[:1].isalpha() else None
        if node.text == "\\emptyset" or words in _EMPTY_WORDS:
            return Items("set", ())
        if words in _REAL_WORDS:
            return Items("tuple", (Leaf("-\\infty"), Leaf("\\infty")), "()")
    if isinstance(node, Items) and len(node.items) == 1 and node.kind != "tuple":
        return canonical(node.items[0])
    return node


def interval_of(relation: Relation) -> tuple[str, Parsed] | None:
    """(variable, interval or union) of an inequality with a bare variable on one side or in the middle."""
    sides, operators = relation.sides, relation.operators
    if operators == ("in",) and isinstance(sides[0], Leaf) and is_name(sides[0].text):
        return sides[0].text, sides[1]
    if not all(operator in FLIPPED and operator != "=" for operator in operators):
        return None
    if len(sides) == 2:
        return _half_line(sides, operators[0])
    if len(sides) == 3 and isinstance(sides[1], Leaf) and is_name(sides[1].text):
        low, high, first, second = sides[0], sides[2], operators[0], operators[1]
        if first[0] == second[0] == ">":
            low, high, first, second = high, low, FLIPPED[second], FLIPPED[first]
        if first[0] == second[0] == "<":
            brackets = ("[" if first == "<=" else "(") + ("]" if second == "<=" else ")")
            return sides[1].text, Items("tuple", (low, high), brackets)
    return None


def _half_line(sides: tuple[Parsed, ...], operator: str) -> tuple[str, Parsed] | None:
    left, right = sides
    if isinstance(right, Leaf) and is_name(right.text) and not (isinstance(left, Leaf) and is_name(left.text)):
        left, right, operator = right, left, FLIPPED[operator]
    if not isinstance(left, Leaf) or not is_name(left.text):
        return None
    infinity, minus = Leaf("\\infty"), Leaf("-\\infty")
    spans: dict[str, Parsed] = {
        "<": Items("tuple", (minus, right), "()"),
        "<=": Items("tuple", (minus, right), "(]"),
        ">": Items("tuple", (right, infinity), "()"),
        ">=": Items("tuple", (right, infinity), "[)"),
        "!=": Sets("union", (Items("tuple", (minus, right), "()"), Items("tuple", (right, infinity), "()"))),
    }
    return left.text, spans[operator]


def _values(node: Parsed) -> Iterator[sympy.Expr | None]:
    """The end points and elements of a set; None if some part of it is not a set."""
    node = canonical(node)
    described = interval_of(node) if isinstance(node, Relation) else None
    if isinstance(node, Leaf):
        yield expression(node)
    elif isinstance(node, Items):
        yield from map(expression, node.items)
        if node.kind == "tuple" and len(node.items) != 2:
            yield None
    elif isinstance(node, Sets):
        for part in node.parts:
            yield from _values(part)
    elif described is not None:
        yield from _values(described[1])
    else:
        yield None


def _places(values: Sequence[sympy.Expr]) -> Mapping[sympy.Expr, sympy.Expr]:
    """Ranks of real constants in ascending order; infinities map to themselves. Empty if a value is not a real
    constant.

    Raises Undecided.
    """
    finite = [value for value in dict.fromkeys(values) if value not in (sympy.oo, -sympy.oo)]
    if any(value.free_symbols for value in finite):
        return {}
    numbers = {value: algebra.real_number(value) for value in finite}
    if None in numbers.values():
        return {}
    places: dict[sympy.Expr, sympy.Expr] = {}
    last = None
    for value in sorted(finite, key=numbers.__getitem__):
        same_place = last is not None and algebra.is_zero(last, value)
        places[value] = places[last] if same_place else sympy.Integer(len(places))
        last = value
    return places


def _as_set(node: Parsed, places: Mapping[sympy.Expr, sympy.Expr]) -> sympy.Set:
    """A node whose values are all known, as a set in which each value is replaced by its rank."""
    node = canonical(node)
    if isinstance(node, Relation):
        described = interval_of(node)
        assert described is not None
        return _as_set(described[1], places)
    if isinstance(node, Sets):
        return reduce(_JOINED[node.kind], [_as_set(part, places) for part in node.parts])
    leaves = node.items if isinstance(node, Items) else (node,)
    values = [places.get(value, value) for value in map(expression, leaves)]
    if isinstance(node, Items) and node.kind == "tuple":
        low, high = values
        return sympy.Interval(low, high, node.brackets[0] == "(", node.brackets[1] == ")")
    return sympy.FiniteSet(*values)


_JOINED = {"union": sympy.Set.union, "intersection": sympy.Set.intersect, "minus": sympy.Set.__sub__}


def expression(node: Parsed) -> sympy.Expr:
    """The expression of a leaf or of a matrix of leaves. Raises Unparsable."""
    if isinstance(node, Matrix):
        return sympy.ImmutableMatrix([[expression(entry) for entry in row] for row in node.rows])
    if not isinstance(node, Leaf):
        raise Unparsable("nested structure")
    return algebra.parse_expression(node.text)

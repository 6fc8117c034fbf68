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
    """(variable, interval or union) of an inequality with a bare variable, or its absolute value, on one side or in
    the middle."""
    sides, operators = relation.sides, relation.operators
    if operators == ("in",) and isinstance(sides[0], Leaf) and is_name(sides[0].text):
        return sides[0].text, sides[1]
    if not all(operator in FLIPPED and operator != "=" for operator in operators):
        return None
    if len(sides) == 2:
        return _half_line(sides, operators[0])
    middle = _name(sides[1]) if len(sides) == 3 else None
    if middle is not None:
        low, high, first, second = sides[0], sides[2], operators[0], operators[1]
        if first[0] == second[0] == ">":
            low, high, first, second = high, low, FLIPPED[second], FLIPPED[first]
        if first[0] == second[0] == "<":
            brackets = ("[" if first == "<=" else "(") + ("]" if second == "<=" else ")")
            return _mirrored(middle, Items("tuple", (low, high), brackets))
    return None


def _name(side: Parsed) -> str | None:
    """The text of a bare variable, or of its absolute value with its bars."""
    if not isinstance(side, Leaf):
        return None
    text = side.text.replace(" ", "") if "|" in side.text else side.text
    return text if is_name(text.removeprefix("|").removesuffix("|")) else None


def _mirrored(name: str, span: Items) -> tuple[str, Parsed] | None:
    """The span; where it bounds ``|x|`` by constants that are not negative, the span of x on both sides of 0."""
    if not name.startswith("|"):
        return name, span
    low, high = span.items
    if not isinstance(low, Leaf) or not isinstance(high, Leaf):
        return None
    lowest, highest = expression(low), expression(high)
    if lowest.free_symbols or highest.free_symbols or highest.is_extended_negative:
        return None
    opposite = Leaf("\\infty") if highest == sympy.oo else Leaf(f"({high.text})")
    if lowest.is_extended_negative:
        return name[1:-1], Items("tuple", (Leaf(f"-{opposite.text}"), high), _both_ends(span.brackets[1]))
    left = Items("tuple", (Leaf(f"-{opposite.text}"), Leaf(f"-({low.text})")), _reflected(span.brackets))
    return name[1:-1], Sets("union", (left, span))


def _both_ends(closing: str) -> str:
    return "[]" if closing == "]" else "()"


def _reflected(brackets: str) -> str:
    return ("[" if brackets[1] == "]" else "(") + ("]" if brackets[0] == "[" else ")")


def _half_line(sides: tuple[Parsed, ...], operator: str) -> tuple[str, Parsed] | None:
    left, right = sides
    if _name(right) is not None and _name(left) is None:
        left, right, operator = right, left, FLIPPED[operator]
    name = _name(left)
    if name is None:
        return None
    infinity, minus = Leaf("\\infty"), Leaf("-\\infty")
    spans: dict[str, Parsed] = {
        "<": Items("tuple", (minus, right), "()"),
        "<=": Items("tuple", (minus, right), "(]"),
        ">": Items("tuple", (right, infinity), "()"),
        ">=": Items("tuple", (right, infinity), "[)"),
        "!=": Sets("union", (Items("tuple", (minus, right), "()"), Items("tuple", (right, infinity), "()"))),
    }
    span = spans[operator]
    return _mirrored(name, span) if isinstance(span, Items) else (name, span)


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

r"""Parses the structure of an answer: its sets, tuples, intervals, relations and matrices.

It works only on text; the expressions at the leaves stay text until ``algebra`` compares them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

MAX_ITEMS = 100

_OPEN, _CLOSE = "([{", ")]}"
_INTERSECTION = re.compile(r"\\cap(?![a-zA-Z])")
_UNION = re.compile(r"\\cup(?![a-zA-Z])|(?<=[)\]])\s*U\s*(?=[(\[])")
_MINUS = re.compile(r"\\setminus(?![a-zA-Z])")
_MEMBER = re.compile(r"\\in(?![a-zA-Z])")
_SEPARATOR = re.compile(r",|;|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])")
_COMMA, _SEMICOLON = re.compile(","), re.compile(";")
_OPERATOR = re.compile(r"\\(?:le|ge|ne|approx|equiv)(?![a-zA-Z])|<=|>=|!=|[<>=]")
_OPERATOR_NAMES = {"\\le": "<=", "\\ge": ">=", "\\ne": "!=", "!=": "!=", "\\approx": "~", "\\equiv": "="}
_THOUSANDS = re.compile(r"(?<![0-9,.])(?!0,)[0-9]{1,3}(?:,[0-9]{3})+(?![0-9]|,[0-9])")
_PLUS_MINUS = re.compile(r"\\(pm|mp)(?![a-zA-Z])")
_MATRIX = re.compile(r"\\begin\s*\{([pbBv]?matrix|array)\}(?:\s*\{[lcr|]*\})?(.*)\\end\s*\{\1\}", re.DOTALL)
_ROW = re.compile(r"\\\\")
_BUILDER = re.compile(r"\\mid(?![a-zA-Z])|(?<!\|)\|(?!\|)|:")
_REALS = re.compile(r"\\mathbb\s*\{?\s*R\s*\}?")
_DOMAIN = re.compile(r"\\mathbb\s*\{?\s*[ZNQ]\s*\}?(?:\s*[_^]\s*\{?[+*0]\}?)*")
_NAME = re.compile(
    r"(?:\\[a-zA-Z]+\s*)*[a-zA-Z](?:_(?:\{[^{}]*\}|[a-zA-Z0-9]))?'*(?:\s*\(\s*[a-zA-Z0-9](?:\s*,\s*[a-zA-Z0-9])*\s*\))?|"
    r"\\[a-zA-Z]+(?:_(?:\{[^{}]*\}|[a-zA-Z0-9]))?|\(\s*[a-zA-Z](?:\s*,\s*[a-zA-Z])+\s*\)|[a-zA-Z](?:\s*,\s*[a-zA-Z])+"
)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A scalar expression, a number or words."""

    text: str


@dataclass(frozen=True, slots=True)
class Items:
    """Several values: a ``set`` in braces, a bare, unordered ``list``, or a ``tuple`` with its brackets."""

    kind: Literal["set", "list", "tuple"]
    items: tuple[Parsed, ...]
    brackets: str = ""


@dataclass(frozen=True, slots=True)
class Sets:
    """Two sets joined: ``union``, ``intersection`` or ``minus``."""

    kind: Literal["union", "intersection", "minus"]
    parts: tuple[Parsed, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """``left op right``, or a chain such as ``0 < x <= 1``, with one more side than operators.

    The operator ``~`` leads to a rounded value of the side before it.
    """

    sides: tuple[Parsed, ...]
    operators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of leaves."""

    rows: tuple[tuple[Parsed, ...], ...]


Parsed = Leaf | Items | Sets | Relation | Matrix


class Malformed(ValueError):
    """Text whose brackets or separators do not form an answer."""


def parse(text: str) -> Parsed:
    """The structure of a normalised answer. Raises Malformed."""
    text = _without_thousands(text.strip())
    if not text:
        raise Malformed("empty")
    relation = _relation(text)
    if relation is not None:
        return relation
    grouped = _grouped(text) if ";" in text else None
    if grouped is not None:
        return grouped
    parts = _split(text, _SEPARATOR)
    return _list(parts) if len(parts) > 1 else _single(text)


def is_name(text: str) -> bool:
    """Whether text is something that can be assigned a value: ``x``, ``f(x)``, ``a_1``, ``(x, y)``."""
    return _NAME.fullmatch(text.strip()) is not None


def _without_thousands(text: str) -> str:
    """The text without the commas between groups of three digits; inside brackets they separate items."""
    if "," not in text or not _THOUSANDS.search(text):
        return text
    depths = _depths(text)
    kept, end = [], 0
    for match in _THOUSANDS.finditer(text):
        if depths[match.start()] == 0:
            kept += [text[end : match.start()], match.group().replace(",", "")]
            end = match.end()
    return "".join(kept) + text[end:]


def _grouped(text: str) -> Parsed | None:
    """``p=5, q=2; p=7, q=2`` as a list of tuples: semicolons between groups of named values."""
    groups = [_split(group, _COMMA) for group in _split(text, _SEMICOLON)]
    if len(groups) < 2 or len({len(group) for group in groups}) > 1 or len(groups[0]) < 2:
        return None
    rows = [[_relation(part.strip()) for part in group if part.strip()] for group in groups]
    if not all(isinstance(cell, Relation) and cell.operators == ("=",) for row in rows for cell in row):
        return None
    tuples = (Items("tuple", tuple(cell.sides[1] for cell in row if isinstance(cell, Relation)), "()") for row in rows)
    return Items("list", tuple(tuples))


def _list(parts: list[str]) -> Parsed:
    """Bare values in a row; ``n = 2, 3, 4`` is one relation with a list on its right."""
    parts = [part for part in parts if part.strip()]
    if not parts or len(parts) > MAX_ITEMS:
        raise Malformed("separators")
    if len(parts) == 1:
        return parse(parts[0])
    nodes = [parse(part) for part in parts]
    nodes = [node for node in nodes if not _is_condition(node)] or nodes
    if len(nodes) == 1:
        return nodes[0]
    items = tuple(item for node in nodes for item in _spread(node))
    first = items[0]
    if _same_unknown(items):  # its values, in no order
        return Items("set", items)
    if (
        isinstance(first, Relation)
        and first.operators == ("=",)
        and not any(isinstance(i, Relation) for i in items[1:])
    ):
        return Relation((first.sides[0], Items("list", (first.sides[1], *items[1:]))), ("=",))
    return Items("list", items)


def _same_unknown(items: tuple[Parsed, ...]) -> bool:
    """Whether all items give values to one name, as ``x = -1 or x = 1`` does."""
    names = [item.sides[0] for item in items if isinstance(item, Relation) and item.operators == ("=",)]
    return len(names) == len(items) and len(set(names)) == 1 and isinstance(names[0], Leaf) and is_name(names[0].text)


def _is_condition(node: Parsed) -> bool:
    """``k \\in \\mathbb{Z}`` beside a value describes its letters, and is not part of the answer."""
    if not isinstance(node, Relation) or node.operators != ("in",):
        return False
    domain = node.sides[1]
    return isinstance(domain, Leaf) and _DOMAIN.fullmatch(domain.text) is not None


def _spread(node: Parsed) -> tuple[Parsed, ...]:
    """A ± inside a list stands for two items."""
    return node.items if isinstance(node, Items) and node.kind == "list" else (node,)


def _relation(text: str) -> Parsed | None:
    """A chain of relations at the top level, or membership in a set."""
    if len(_split(text, _SEPARATOR)) > 1 and not _names_then_relation(text):
        return None
    member = _split(text, _MEMBER)
    if len(member) == 2:
        return Relation((parse(member[0]), parse(member[1])), ("in",))
    sides, operators = _split_keeping(text, _OPERATOR)
    if not operators:
        return None
    if any(not side.strip() for side in sides):
        raise Malformed("relation")
    names = tuple(_OPERATOR_NAMES.get(operator, operator) for operator in operators)
    if names == ("~",) and is_name(sides[0]):
        names = ("=",)
    return Relation(tuple(_names(side) for side in sides), names)


def _names_then_relation(text: str) -> bool:
    """``x, y = 1, 2``: a single equals sign with only names before it."""
    sides, operators = _split_keeping(text, _OPERATOR)
    return operators == ["="] and "," in sides[0] and is_name(sides[0])


def _names(text: str) -> Parsed:
    return Leaf(text.strip()) if is_name(text) else parse(text)


def _single(text: str) -> Parsed:
    """One value without separators at the top level."""
    for pattern, kind in ((_UNION, "union"), (_INTERSECTION, "intersection"), (_MINUS, "minus")):
        parts = _split(text, pattern)
        if len(parts) > 1:
            return Sets(kind, tuple(parse(part) for part in parts))  # type: ignore[arg-type]
    if _REALS.fullmatch(text):
        return Items("tuple", (Leaf("-\\infty"), Leaf("\\infty")), "()")
    matrix = _MATRIX.fullmatch(text.strip("()[] "))
    if matrix and matrix.group(2).count("\\begin") == 0:
        if matrix.group(1) != "vmatrix":
            return _matrix(matrix.group(2))
        return Leaf(text)
    bracketed = _bracketed(text)
    if bracketed is not None:
        return bracketed
    return _plus_minus(text)


def _bracketed(text: str) -> Parsed | None:
    """A set, tuple or interval that spans the whole text; None for anything else, including ``(x + 1)``."""
    for opening, closing in (
        ("\\{", "\\}"),
        ("{", "}"),
        ("(", ")"),
        ("[", "]"),
        ("(", "]"),
        ("[", ")"),
        ("\\langle", "\\rangle"),
    ):
        if text.startswith(opening) and text.endswith(closing) and len(text) >= len(opening) + len(closing):
            inner = text[len(opening) : -len(closing)]
            if _encloses(inner):
                return _inside(inner, opening[-1] + closing[-1])
    return None


def _inside(inner: str, brackets: str) -> Parsed | None:
    is_set = brackets == "{}"
    if is_set and not inner.strip():
        return Items("set", ())
    if is_set:
        builder = _split(inner, _BUILDER)
        if len(builder) == 2 and _split_keeping(builder[1], _OPERATOR)[1]:
            return parse(builder[1])
    parts = _split(inner, _SEPARATOR)
    if len(parts) > MAX_ITEMS or (len(parts) > 1 and any(not part.strip() for part in parts)):
        raise Malformed("separators")
    if is_set:
        return Items("set", tuple(node for part in parts for node in _spread(parse(part))))
    if len(parts) == 1:
        return parse(inner) if _has_structure(inner) else None
    return Items("tuple", tuple(parse(part) for part in parts), "()" if brackets == "ee" else brackets)


def _has_structure(inner: str) -> bool:
    """Whether brackets around one value have no meaning: around a set, a relation or another bracketed value."""
    return not isinstance(parse(inner), Leaf)


def _encloses(inner: str) -> bool:
    """Whether the brackets around ``inner`` match each other: no bracket inside closes without having opened."""
    depth = 0
    for index, character in enumerate(inner):
        if character in _OPEN:
            depth += 1
        elif character in _CLOSE:
            depth -= 1
        elif character == "\\" and inner.startswith(("\\langle", "\\rangle"), index):
            depth += 1 if inner.startswith("\\langle", index) else -1
        if depth < 0:
            return False
    return depth == 0


def _matrix(body: str) -> Parsed:
    rows = [row for row in _ROW.split(body) if row.strip()]
    cells = tuple(tuple(Leaf(cell.strip()) for cell in row.split("&")) for row in rows)
    if not cells or len({len(row) for row in cells}) != 1 or sum(map(len, cells)) > MAX_ITEMS:
        raise Malformed("matrix")
    return Matrix(cells)


def _plus_minus(text: str) -> Parsed:
    r"""``a \pm b`` as the two values it represents."""
    if not _PLUS_MINUS.search(text):
        return Leaf(text)
    upper, lower = _PLUS_MINUS.sub(_upper_sign, text), _PLUS_MINUS.sub(_lower_sign, text)
    return Items("list", (Leaf(upper.strip().removeprefix("+").strip()), Leaf(lower.strip().removeprefix("+").strip())))


def _upper_sign(match: re.Match[str]) -> str:
    return "+" if match[1] == "pm" else "-"


def _lower_sign(match: re.Match[str]) -> str:
    return "-" if match[1] == "pm" else "+"


def _split(text: str, separator: re.Pattern[str]) -> list[str]:
    return _split_keeping(text, separator)[0]


def _split_keeping(text: str, separator: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """Text split at each ``separator`` outside all brackets and environments, and the separators found."""
    parts, found, start = [], [], 0
    depths = _depths(text)
    for match in separator.finditer(text):
        if match.start() >= start and depths[match.start()] == 0:
            parts.append(text[start : match.start()])
            found.append(match.group())
            start = match.end()
    return [*parts, text[start:]], found


def _depths(text: str) -> list[int]:
    """The bracket depth of each character. Interval brackets need not match: ``(0, 1]`` closes."""
    depths, depth = [], 0
    for index, character in enumerate(text):
        if character in _CLOSE or text.startswith(("\\end{", "\\rangle"), index):
            depth = max(0, depth - 1)
        depths.append(depth)
        if character in _OPEN or text.startswith(("\\begin{", "\\langle"), index):
            depth += 1
    return depths

"""HTML that is escaped by construction: text goes in as text, and only ``tag`` makes markup."""

from __future__ import annotations

import html
import json
from typing import Any

VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})


class Markup(str):
    """Text that is already HTML."""

    __slots__ = ()


def text(value: Any) -> Markup:
    """A value as HTML text; markup stays as it is."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value), quote=True))


def tag(name: str, /, *children: Any, **attributes: Any) -> Markup:
    """``<name …>children</name>``; None and False children and attributes are left out.

    An underscore in an attribute's name becomes a hyphen, one at its end is dropped: ``class_``, ``aria_label``.
    """
    given = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{text(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in VOID:
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{join(*children)}</{name}>")


def join(*parts: Any) -> Markup:
    """Parts one after the other."""
    return Markup("".join(text(part) for part in parts if part is not None and part is not False))


def embedded_json(value: Any) -> Markup:
    """JSON that may stand inside a ``<script>`` element: no character of it can end that element."""
    plain = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        plain = plain.replace(character, f"\\u{ord(character):04x}")
    return Markup(plain)

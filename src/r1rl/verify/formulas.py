r"""Finds the formulas in prose: ``$…$``, ``$$…$$``, ``\(…\)``, ``\[…\]`` and LaTeX environments.

A dollar sign is also a currency. It opens a formula only if the next one can close it: the content has no blank line
and is not prose, and what follows does not continue an amount (``$18-$20``, ``$5 and $6``).
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_FORMULA = 2_000
"""Longest formula that is read, in characters."""

_OPENING = re.compile(
    r"\\\$|(?P<dollars>\$\$?)|(?P<bracket>\\{1,2}[(\[])"
    r"|\\{1,2}begin\s*\{(?P<environment>(?:equation|align|aligned|gather|gathered|multline|eqnarray|displaymath|math"
    r"|split|alignat|[pbBvV]?matrix|smallmatrix|array|cases)\*?)\}"
)
_KEPT = re.compile(r"matrix|array|cases")
_CLOSING = {"(": re.compile(r"\\{1,2}\)"), "[": re.compile(r"\\{1,2}\]")}
_DOLLAR = re.compile(r"(?<!\\)\$")
_AMOUNT = re.compile(r"\s?[-−+]?\.?[0-9]|\s*$")
_TEXT = re.compile(r"\\[a-zA-Z]+\s*\{[^{}]*\}|\\[a-zA-Z]+")
_WORD = re.compile(r"[^\W\d_]{3,}")
_FUNCTION = re.compile(
    r"and|sin|cos|tan|cot|sec|csc|log|exp|sqrt|max|min|gcd|lcm|det|mod|inf|infty|infinity|percent|pct"
)
_SMALL_WORDS = re.compile(
    r"(?<![\\\w])(?:the|is|of|to|for|has|she|he|it|in|on|at|each|per|was|are|with|from|then|than|so|we|by|every|for"
    r"|left|more|total|cost|costs|spent|earned|paid|they|his|her|this|that|which)(?![\w}])",
    re.IGNORECASE,
)


class Formula(NamedTuple):
    """A formula's place in the text, delimiters included, and its content; None if it never closes."""

    start: int
    end: int
    content: str | None


def formulas(text: str) -> list[Formula]:
    """All formulas of a text, in order. The text is short: a phrase or the tail of a completion."""
    found, position = [], 0
    while match := _OPENING.search(text, position):
        formula = _formula(text, match)
        if formula is not None:
            found.append(formula)
        position = formula.end if formula is not None else match.end()
    return found


def _formula(text: str, opening: re.Match[str]) -> Formula | None:
    """The formula that begins here; None where a dollar sign is a currency."""
    start, inside = opening.start(), opening.end()
    if opening["dollars"]:
        return _in_dollars(text, start, len(opening["dollars"]))
    if opening["bracket"]:
        closing = _CLOSING[opening["bracket"][-1]].search(text, inside, inside + MAX_FORMULA)
        return _closed(text, start, inside, closing)
    name = opening["environment"]
    if name is None:
        return None
    closing = re.compile(r"\\{1,2}end\s*\{" + re.escape(name) + r"\}").search(text, inside, inside + MAX_FORMULA)
    formula = _closed(text, start, inside, closing)
    return formula._replace(content=text[start : formula.end]) if formula.content and _KEPT.search(name) else formula


def _closed(text: str, start: int, inside: int, closing: re.Match[str] | None) -> Formula:
    if closing is None:
        return Formula(start, inside, None)
    return Formula(start, closing.end(), text[inside : closing.start()])


def _in_dollars(text: str, start: int, width: int) -> Formula | None:
    inside = start + width
    if width == 2:
        end = text.find("$$", inside, inside + MAX_FORMULA)
        return Formula(start, end + 2, text[inside:end]) if end >= 0 else _unclosed(text, start, inside)
    closing = _DOLLAR.search(text, inside, inside + MAX_FORMULA)
    content = text[inside : closing.start()] if closing else ""
    if closing is None or not _is_mathematics(content, text[closing.end() : closing.end() + 1]):
        return _unclosed(text, start, inside)
    return Formula(start, closing.end(), content)


def _unclosed(text: str, start: int, inside: int) -> Formula | None:
    """An opened formula that is cut off, unless the dollar sign is a currency: before or after an amount."""
    if _AMOUNT.match(text, inside) or text[max(0, start - 2) : start].rstrip()[-1:].isdigit():
        return None
    return Formula(start, inside, None)


def _is_mathematics(content: str, follows: str) -> bool:
    """Whether what stands between two dollar signs is a formula rather than prose between two amounts."""
    if not content.strip() or "\n\n" in content:
        return False
    if follows.isdigit() and (content[0].isdigit() or content[-1].isspace() or content[-1] in "-/=+"):
        return False
    plain = _TEXT.sub(" ", content)
    words = [word for word in _WORD.findall(plain) if not _FUNCTION.fullmatch(word)]
    return len(words) <= 1 and not (content.lstrip()[:1].isdigit() and _SMALL_WORDS.search(plain))

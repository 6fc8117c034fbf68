"""The columns that a source names, checked against those of its rows."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Sequence

from r1rl.config.data import DatasetConfig

PLACE = re.compile(r"\{\{([^{}]+)\}\}|\{([^{}]+)\}")
"""A placeholder in ``question_from``: the first group is a name in double braces, the second one in single braces."""
_NAME_LIKE = re.compile(r"[^\W\d]\w*")


def missing_columns(config: DatasetConfig, there: Sequence[str]) -> str:
    """An error text about the columns that a source names and that are not ``there``, with the nearest names; empty if
    none is missing."""
    named = [config.question]
    if config.question_from:
        places = [place[1] or place[2] for place in PLACE.finditer(config.question_from) if not place[1]]
        named = [column for column in places if column in there or _NAME_LIKE.fullmatch(column) or _near(column, there)]
    if config.answer is not None:
        named.append(config.answer)
    missing = [column for column in dict.fromkeys(named) if column not in there]
    if not missing:
        return ""
    near = ", ".join(repr(_near(column, there)) for column in missing if _near(column, there))
    return (
        f"has no column {' and no column '.join(map(repr, missing))}; it has {', '.join(there) or 'none'}; "
        f"set question, question_from or answer to one of them{f'; did you mean {near}?' if near else ''}"
    )


def _near(column: str, there: Sequence[str]) -> str:
    by_key = {_folded(other): other for other in reversed(there)}
    close = difflib.get_close_matches(_folded(column), by_key, n=1, cutoff=0.75)
    return by_key[close[0]] if close else ""


def _folded(column: str) -> str:
    return unicodedata.normalize("NFC", column).casefold().strip()

"""``${STAGE.OUTPUT}`` in a value stands for the output of an earlier stage."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_REFERENCE = re.compile(r"\$\{([^{}]*)\}")
_WHOLE = re.compile(r"\$\{\s*([A-Za-z0-9][A-Za-z0-9_-]*)\.([a-z]+)\s*\}")


@dataclass(frozen=True, slots=True)
class Reference:
    """One ``${STAGE.OUTPUT}``; ``stage`` and ``output`` are empty where the text is not of that form."""

    text: str
    stage: str = ""
    output: str = ""


def references_in(text: str) -> list[Reference]:
    """The references in one value, in order."""
    found = []
    for match in _REFERENCE.finditer(text):
        whole = _WHOLE.fullmatch(match[0])
        found.append(Reference(match[0], whole[1], whole[2]) if whole else Reference(match[0]))
    return found


def strings(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every text inside nested mappings and lists, with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from strings(inner, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from strings(inner, (*path, str(index)))


def replaced(value: Any, replace: Callable[[str], str]) -> Any:
    """A copy of nested mappings and lists with ``replace`` applied to every text."""
    if isinstance(value, str):
        return replace(value)
    if isinstance(value, Mapping):
        return {key: replaced(inner, replace) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [replaced(inner, replace) for inner in value]
    return value


def pick(dumped: Mapping[str, Any], dotted: str) -> Any:
    """The value at a dotted path of nested mappings."""
    value: Any = dumped
    for key in dotted.split("."):
        value = value[key]
    return value

"""Turns pydantic's errors into one message that says which key, where, and what to write instead."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from r1rl.config.base import KeyPath, inside_stage
from r1rl.config.elsewhere import explained
from r1rl.config.renamed import RENAMED
from r1rl.config.schema import RunConfig
from r1rl.config.walk import sections

Locate = Callable[[KeyPath], tuple[str, str]]
"""The name of a key as its author wrote it, and where (may be empty)."""

SHOWN = 5


def explain(error: ValidationError, raw: Mapping[str, Any], locate: Locate) -> str:
    """One line with all errors, each with its place, its key and the nearest valid key."""
    found: dict[KeyPath, str] = {}
    for item in error.errors(include_url=False):
        path = _written(item["loc"], raw)
        name, where = locate(path)
        message = _describe(item, path, name)  # type: ignore[arg-type]
        found.setdefault(path, f"{where}: {message}" if where else message)
    lines = list(found.values())
    rest = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "; ".join(lines[:SHOWN] + rest)


def _describe(item: dict[str, Any], path: KeyPath, name: str) -> str:
    if item["type"] == "extra_forbidden":
        return f"unknown key {name}{suggest(path, name, item['input'])}"
    if item["type"] == "missing":
        return f"{name} is required"
    message = str(item["msg"]).removeprefix("Input ").removeprefix("Value error, ")
    return f"{name} {message}, got {_short(item['input'])}"


def _written(loc: tuple[int | str, ...], raw: Any) -> KeyPath:
    """The part of pydantic's location that is a path of keys: unions append the type they tried."""
    path: list[str] = []
    for part in loc:
        if isinstance(raw, Mapping):
            path.append(str(part))
            raw = raw.get(part)
        elif isinstance(raw, list | tuple) and isinstance(part, int) and part < len(raw):
            path.append(str(part))
            raw = raw[part]
        else:
            break
    return tuple(path)


def suggest(path: KeyPath, name: str, value: Any = None) -> str:
    """What the author may have meant: our name for another framework's key, the nearest key in the same section, or the
    same name in another section.

    ``path`` is the unknown key's place in the schema, ``name`` the key as it was written, ``value`` what it was set to.
    """
    *parents, last = inside_stage(path)
    ours = [".".join((*section, last)) for section, keys in _keys().items() if last in keys]
    theirs = explained((*parents, last), value)
    if theirs and not ours:
        return f" ({theirs})"
    siblings = valid_keys(path[:-1])
    near = difflib.get_close_matches(last, siblings, n=1)
    if near and not theirs:
        return f" (nearest: {name.removesuffix(last)}{near[0]})"
    former = [".".join((*key[:-1], now)) for key, now in RENAMED.items() if key[-1] == last]
    if ours or former:
        return f" (did you mean {' or '.join((ours or former)[:3])}?)"
    return f" (valid here: {', '.join(siblings)})" if siblings else ""


def valid_keys(path: KeyPath) -> tuple[str, ...]:
    """Keys of the section at ``path``; empty where any name is allowed or there is no section."""
    inside = inside_stage(path)
    for section, keys in _keys().items():
        if len(section) == len(inside) and all(
            part in ("NAME", given) for part, given in zip(section, inside, strict=True)
        ):
            return keys
    return ()


@functools.cache
def _keys() -> dict[KeyPath, tuple[str, ...]]:
    """The keys of each section, by its path."""
    return {
        tuple(path.split(".")) if path else (): tuple(section.model_fields) for path, section, _ in sections(RunConfig)
    }


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

"""Walks the sections of the configuration's schema."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo

from r1rl.config.base import Section


def sections(
    section: type[Section], path: str = "", optional: bool = False
) -> Iterator[tuple[str, type[Section], bool]]:
    """Every section of the schema: its dotted path, its class, and whether it is null unless set.

    ``NAME`` in a path stands for a name that the user chooses.
    """
    yield path, section, optional
    for name, field in section.model_fields.items():
        for inner, named in _inner(field.annotation):
            below = ".".join(part for part in (path, name, "NAME" if named else "") if part)
            yield from sections(inner, below, optional=not field.is_required() and field.default is None)


def is_section(field: FieldInfo) -> bool:
    return bool(_inner(field.annotation))


def _inner(annotation: Any) -> list[tuple[type[Section], bool]]:
    """Sections inside an annotation, and whether they are under names that the user chooses."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [(annotation, False)]
    args = typing.get_args(annotation)
    if typing.get_origin(annotation) is dict:
        return [(section, True) for section, _ in _inner(args[1])]
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return [found for arg in args for found in _inner(arg)]
    return []

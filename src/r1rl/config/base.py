"""The base of every configuration section. Nothing under ``r1rl.config`` imports torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from r1rl.registry import Registry


@dataclass(frozen=True, slots=True, eq=False)
class NameIn:
    """Marks a key whose value is a name of ``table``, or ``module:name``; nothing is imported to check it."""

    table: Registry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        return AfterValidator(self.table.check).__get_pydantic_core_schema__(source, handler)


def table_of(field: FieldInfo) -> Registry | None:
    """The table whose names a key, or each item of it, takes."""
    items = [rule for inner in get_args(field.annotation) for rule in getattr(inner, "__metadata__", ())]
    return next((rule.table for rule in (*field.metadata, *items) if isinstance(rule, NameIn)), None)


def chosen(value: Any, path: str) -> Iterator[tuple[str, Registry, str]]:
    """Every name of a table in a section, or what is inside one: its key, the table, the name."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from chosen(inner, f"{path}.{name}")
    elif isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            inner, key = getattr(value, name), f"{path}.{name}"
            table = table_of(field)
            if table is None:
                yield from chosen(inner, key)
            elif inner is not None:
                yield from ((key, table, use) for use in (inner if isinstance(inner, list) else [inner]))


KeyPath = tuple[str, ...]
"""The names on the way to a key, outermost section first."""


def inside_stage(key: KeyPath) -> KeyPath:
    """A path of keys without the stage that it is in: a stage's section has the keys of the run's."""
    return key[2:] if len(key) > 2 and key[0] == "stages" else key


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values are checked on assignment too."""

    model_config = ConfigDict(
        extra="forbid", validate_assignment=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
    former_names: ClassVar[Mapping[str, str]] = {}
    """Former name of each renamed key of this section, and its current name."""

    @model_validator(mode="before")
    @classmethod
    def _accept_former_names(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        out = dict(given)
        for former, name in cls.former_names.items():
            if former in out:
                if name in out:
                    raise ValueError(f"{former} is the former name of {name}: give {name} alone")
                warnings.warn(f"{cls.__name__}: {former} is called {name} now", DeprecationWarning, stacklevel=2)
                out[name] = out.pop(former)
        return out

    @field_validator("*", mode="before")
    @classmethod
    def _reject_bool(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and info.field_name is not None:
            annotation = cls.model_fields[info.field_name].annotation
            kinds = {annotation, *get_args(annotation)}
            if kinds & {int, float} and bool not in kinds:
                raise ValueError("should be a number")
        return value


class Origins(dict[tuple[str, ...], str]):
    """Where each key was written: its path to ``file:line`` or to the override it came from.

    The empty path is the file itself. Two configurations with equal values are equal wherever they were written.
    """

    def __init__(self, places: Mapping[tuple[str, ...], str] | None = None) -> None:
        super().__init__(places or {})
        self.former: dict[tuple[str, ...], tuple[str, ...]] = {}
        """The paths of keys that were written under a former name, with that name."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Origins)

    def rename(self, old: tuple[str, ...], new: tuple[str, ...]) -> None:
        """Move the key at ``old``, and all below it, to ``new``."""
        for path in [path for path in self if path[: len(old)] == old]:
            self[new + path[len(old) :]] = self.pop(path)
        self.former[new] = old

    def under(self, over: Origins) -> Origins:
        """These origins, overridden by those of a layer on top."""
        both = Origins({**self, **over})
        both.former = {**{new: old for new, old in self.former.items() if new not in over}, **over.former}
        return both

    __hash__ = None

    def find(self, path: tuple[str, ...]) -> str:
        """Where the key was written, or a key inside it, or the nearest section around it; empty if none was."""
        if path not in self and (inside := next((key for key in self if key[: len(path)] == path), None)):
            return self[inside]
        for end in range(len(path), -1, -1):
            if path[:end] in self:
                return self[path[:end]]
        return ""


def explicit(section: BaseModel) -> dict[str, Any]:
    """The keys that were set explicitly, as plain nested dictionaries: no defaults and no preset values.

    Validating the result again gives an equal section, which is what lets stages merge over a run.
    """
    given: dict[str, Any] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        inner = _plain(value)
        if name in section.model_fields_set or (isinstance(value, BaseModel | dict) and inner):
            given[name] = inner
    return given


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return explicit(value)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return value

"""Reads ``a.b.c=VALUE``: the key decides how its value is read.

A value is YAML where the key takes a number, a list, a mapping or null, and the text itself where it takes text. So
nothing in a text needs quotes, neither ``#`` nor ``: `` nor ``007``; quotes around all of it are taken off.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import yaml

from r1rl.config.base import Origins, Section
from r1rl.config.merge import deep_merge, expand
from r1rl.config.renamed import current, with_current_names
from r1rl.config.schema import RunConfig
from r1rl.config.source import NULL, parse_document, parse_value
from r1rl.errors import ConfigError


def read_overrides(overrides: Sequence[str]) -> tuple[dict[str, Any], Origins]:
    """``a.b.c=VALUE`` strings as one layer; later ones win.

    Raises:
        ConfigError: an override without ``=``, with an empty key, or with a list or mapping that is not valid YAML; a
            key under both its former and its current name.
    """
    layer: dict[str, Any] = {}
    origins = Origins()
    for text in overrides:
        name, equals, value = text.partition("=")
        path = tuple(name.strip().removeprefix("--").split("."))
        if not equals or not all(path):
            raise ConfigError(f"override {text!r}: expected key=value, for example grpo.learning_rate=1e-4")
        try:
            nested: Any = value_for(annotation_at(current(path)), value)
        except yaml.YAMLError as error:
            raise ConfigError(
                f"override {text!r}: not valid YAML ({' '.join(str(error).split())}); put a text that holds any of "
                "# : , [ ] { } in quotes"
            ) from error
        origins.update(dict.fromkeys(_paths(path, nested), f"override {text}"))
        for key in reversed(path):
            nested = {key: nested}
        layer = deep_merge(layer, expand(nested))
    return with_current_names(layer, origins), origins


def annotation_at(path: Sequence[str]) -> Any:
    """The type of the key at a path, ``Any`` where the schema leaves it open or has no such key."""
    if len(path) > 3 and path[0] == "stages":
        path = path[2:]  # a stage's section takes what the run's takes
    found: Any = RunConfig
    for part in path:
        inner = next((option for option in _options(found) if _is_container(option)), Any)
        if isinstance(inner, type) and issubclass(inner, Section):
            field = inner.model_fields.get(part)
            found = field.annotation if field else Any
        else:
            found = typing.get_args(inner)[1] if typing.get_origin(inner) is dict else Any
    return found


def value_for(annotation: Any, text: str) -> Any:
    """What a text means for a key of this type. Raises yaml.YAMLError for a list or mapping that cannot be read."""
    options = _options(annotation)
    begins = text.strip()[:1]
    if Any in options:
        return parse_value(text)
    if any(map(_is_container, options)) and (begins in ("[", "{") or not any(map(_is_text, options))):
        value = parse_value(text)
        return parse_document(text) if value == text and (begins in ("[", "{") or ": " in text) else value
    if any(map(_is_text, options)):
        if types.NoneType in options and NULL.fullmatch(text.strip() or "-"):
            return None
        quoted = parse_value(text) if begins in ("'", '"') else text
        return quoted if isinstance(quoted, str) else text
    return parse_value(text)


def _options(annotation: Any) -> tuple[Any, ...]:
    is_union = isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union
    return typing.get_args(annotation) if is_union else (annotation,)


def _is_container(option: Any) -> bool:
    kind = typing.get_origin(option) or option
    return isinstance(kind, type) and issubclass(kind, dict | list | tuple | Section)


def _is_text(option: Any) -> bool:
    literals = typing.get_args(option) if typing.get_origin(option) is Literal else ()
    return option is str or (bool(literals) and all(isinstance(each, str) for each in literals))


def _paths(path: tuple[str, ...], value: Any) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _paths((*path, str(key)), inner)

"""Reads YAML and remembers the line of each key.

Scalars follow YAML 1.2, with ``_`` allowed in integers: ``1e-4`` is a number, ``no`` and ``2024-01-01`` are text.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from r1rl.config.base import Origins
from r1rl.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars below instead of YAML 1.1's."""


_Loader.yaml_implicit_resolvers = {}

for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$", list("-+0123456789")),
    (
        "float",
        r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        list("-+0123456789."),
    ),
    ("merge", r"^<<$", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


def read_yaml(path: Path) -> tuple[dict[str, Any], Origins]:
    """The mapping in one YAML file, and the line of each key.

    Raises:
        ConfigError: the file is missing, is not YAML, is not a mapping, or gives a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder; name the YAML file in it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    value, origins = _parse(text, str(path))
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected keys and values at the top, found a {type(value).__name__}")
    return value, origins


NULL = re.compile(r"~|null|Null|NULL")
_OPENS = {"'": str, '"': str, "[": list, "{": dict}


def parse_value(text: str) -> Any:
    """One value as on the command line: a YAML scalar, quoted text, ``[a, list]`` or ``{a: mapping}``.

    Anything else is text as a whole: ``#### (.+)`` is not a comment, ``a: b`` is not a mapping.
    """
    stripped = text.strip()
    expected = _OPENS.get(stripped[:1])
    if expected is None:
        plain = _Loader("").resolve(yaml.ScalarNode, stripped, (True, False))  # type: ignore[no-untyped-call]  # PyYAML
        return text if not stripped or plain.endswith((":str", ":merge")) else parse_document(stripped)
    try:
        value = parse_document(stripped)
    except yaml.YAMLError:
        return text
    is_set = isinstance(value, dict) and ":" not in stripped and value  # {question} is a placeholder in a text
    return value if isinstance(value, expected) and not is_set else text


def parse_document(text: str) -> Any:
    """A YAML document. Raises yaml.YAMLError."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _parse(text: str, file: str) -> tuple[Any, Origins]:
    origins = Origins({(): file})
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, origins
        _reject_repeats(node, file, ())
        value = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{file}{line}: not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from error
    finally:
        loader.dispose()
    _locate(node, (), file, origins)
    return value, origins


def _reject_repeats(node: yaml.Node, file: str, inside: tuple[int, ...]) -> None:
    if id(node) in inside:
        raise ConfigError(f"{file}:{node.start_mark.line + 1}: an alias that contains itself")
    inside = (*inside, id(node))
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _reject_repeats(child, file, inside)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, child in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                raise ConfigError(f"{file}:{line}: key {name} is given twice, first on line {lines[name]}")
            lines[name] = line
            _reject_repeats(child, file, inside)


def _locate(node: yaml.Node, path: tuple[str, ...], file: str, origins: Origins) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            inner = (*path, str(key.value))
            origins[inner] = f"{file}:{key.start_mark.line + 1}"
            _locate(child, inner, file, origins)
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            inner = (*path, str(index))
            origins[inner] = f"{file}:{child.start_mark.line + 1}"
            _locate(child, inner, file, origins)

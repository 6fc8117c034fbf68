"""What ``path/to/file.py:name`` or ``package.module:name`` means: found without running it, or loaded.

Modules are looked for among what is installed and then in the current folder.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import operator
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from r1rl.imports import import_file, import_module


@dataclass(frozen=True, slots=True)
class Located:
    """Where an object was found."""

    place: str
    node: ast.AST | None = None
    """Its definition; None if the name is bound in another way (an import, an assignment)."""


def find(use: str) -> Located | None:
    """The place of an object, by the files and their syntax trees alone; nothing is imported.

    None where only running the module can tell, because it creates its names when it is imported.

    Raises: ImportError if it does not exist, with the nearest name that does.
    """
    place, _, attribute = use.rpartition(":")
    file = Path(place) if place.endswith(".py") else module_file(place)
    if file is None:
        return None
    _require(file)
    return _in_file(file, attribute.partition(".")[0])


def load(use: str) -> Any:
    """The object itself, as ``pkgutil.resolve_name`` returns it; imports its module or file.

    Raises: ImportError if it does not exist, with the nearest name that does, or if its module does not import.
    """
    place, _, attribute = use.rpartition(":")
    module = _from_file(Path(place)) if place.endswith(".py") else _from_module(place)
    try:
        return operator.attrgetter(attribute)(module)
    except AttributeError:
        near = nearest(attribute, [name for name, value in vars(module).items() if callable(value)])
        raise ImportError(f"{place} has no {attribute!r}{near}") from None


def module_file(name: str) -> Path | None:
    """The source of a module, without importing it or its packages; None for one without source.

    Raises: ImportError where there is no such module.
    """
    parts = name.split(".")
    spec = _top(parts[0])
    for end in range(2, len(parts) + 1):
        if spec is not None:
            spec = PathFinder.find_spec(".".join(parts[:end]), spec.submodule_search_locations or [])
    if spec is None:
        raise ImportError(f"module {name!r} does not exist (looked among what is installed and in {Path.cwd()})")
    return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None


def nearest(name: str, candidates: Iterable[str]) -> str:
    """``; did you mean NAME?``, or empty if no name is similar."""
    close = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}?" if close else ""


def _require(file: Path) -> None:
    if not file.is_file():
        raise ImportError(f"file {str(file)!r} does not exist (looked in {Path.cwd()})")


def _from_file(file: Path) -> ModuleType:
    _require(file)
    try:
        return import_file(file)
    except Exception as error:  # the user's file may raise anything
        raise ImportError(f"file {str(file)!r} does not import: {type(error).__name__}: {error}") from error


def _from_module(name: str) -> ModuleType:
    try:
        return import_module(name)
    except Exception as error:  # the user's module may raise anything
        raise ImportError(f"module {name!r} does not import: {type(error).__name__}: {error}") from error


def _top(name: str) -> ModuleSpec | None:
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    return found or PathFinder.find_spec(name, [*sys.path, str(Path.cwd())])


def _in_file(file: Path, attribute: str) -> Located | None:
    text = file.read_bytes()
    try:
        tree = ast.parse(text, str(file))
    except (SyntaxError, ValueError) as error:
        where = f" line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ImportError(f"{file}{where} is not valid Python: {error}") from error
    names = dict(_bound(tree.body))
    if attribute in names:
        node = names[attribute]
        return Located(f"{file}:{node.lineno}", node if hasattr(node, "name") else None)
    if {"*", "__getattr__"} & set(names) or b"globals()" in text or b"sys.modules[" in text:
        return None
    raise ImportError(f"{file} has no {attribute!r}{nearest(attribute, names)}")


def _bound(body: list[ast.stmt]) -> Iterator[tuple[str, Any]]:
    """The names that statements bind at module level, with the statements."""
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name, node
            case ast.Import() | ast.ImportFrom():
                for alias in node.names:
                    yield (alias.asname or alias.name).split(".")[0], ast.Pass(lineno=node.lineno)
            case ast.If() | ast.For() | ast.While() | ast.With() | ast.Try():
                inner = [getattr(node, part, []) for part in ("body", "orelse", "finalbody")]
                inner += [handler.body for handler in getattr(node, "handlers", [])]
                for part in inner:
                    yield from _bound(part)
            case _:
                for name in ast.walk(node):
                    if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                        yield name.id, ast.Pass(lineno=node.lineno)

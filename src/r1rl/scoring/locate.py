"""Finds what ``use:`` names without running it: by the metadata of packages, by files, by their syntax trees."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from r1rl.errors import RewardError
from r1rl.scoring.registry import nearest, registered, unknown_name


@dataclass(frozen=True, slots=True)
class Located:
    """Where a function was found."""

    place: str
    node: ast.AST | None = None
    """Its definition; None where the name is bound in another way (an import, an assignment)."""


def locate(use: str) -> Located | None:
    """The place of a registered name, ``path/to/file.py:function`` or ``package.module:function``.

    None where only running the module can tell, because it makes its names while it is imported.

    Raises: RewardError when nothing is there, naming the nearest thing that is.
    """
    if ":" not in use:
        points = registered()
        if use not in points:
            raise RewardError(unknown_name(use))
        use = points[use].value
    place, _, attribute = use.rpartition(":")
    file = Path(place) if place.endswith(".py") else module_file(place)
    if file is None:
        return None
    if not file.is_file():
        raise RewardError(f"reward file {str(file)!r} does not exist (looked in {Path.cwd()})")
    return _in_file(file, attribute)


def check_args(name: str, found: Located, args: Mapping[str, Any], *, ours: bool = False) -> None:
    """Raises RewardError for an argument that a reward function does not take; classes and factories may take any.

    ``ours``: it is one of r1rl's own, whose keyword-only arguments without default the configuration has to give.
    """
    if not isinstance(found.node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    taken = found.node.args
    parameters = [argument.arg for argument in (*taken.posonlyargs, *taken.args, *taken.kwonlyargs)]
    for argument in args:
        if argument not in parameters and ("completions" in parameters or taken.kwarg is None):
            raise RewardError(f"reward {name!r} takes no argument {argument!r}{nearest(argument, parameters)}")
    needed = [a.arg for a, default in zip(taken.kwonlyargs, taken.kw_defaults, strict=True) if default is None]
    lacking = [argument for argument in needed if ours and argument not in args]
    if lacking:
        raise RewardError(f"reward {name!r} needs {', '.join(lacking)}; give them under its args")


def module_file(name: str) -> Path | None:
    """The source of a module, looked for as Python does and then from the current folder, without importing it or its
    packages; None for one without source. Raises RewardError where there is none."""
    parts = name.split(".")
    spec = _top(parts[0])
    for end in range(2, len(parts) + 1):
        if spec is not None:
            spec = PathFinder.find_spec(".".join(parts[:end]), spec.submodule_search_locations or [])
    if spec is None:
        raise RewardError(f"there is no module {name!r} (looked among what is installed and in {Path.cwd()})")
    return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None


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
        raise RewardError(f"{file}{where} is not valid Python: {error}") from error
    names = dict(_bound(tree.body))
    if attribute in names:
        node = names[attribute]
        return Located(f"{file}:{node.lineno}", node if hasattr(node, "name") else None)
    if {"*", "__getattr__"} & set(names) or b"globals()" in text or b"sys.modules[" in text:
        return None
    raise RewardError(f"{file} has no {attribute!r}{nearest(attribute, names)}")


def _bound(body: list[ast.stmt]) -> Iterator[tuple[str, Any]]:
    """The names that statements bind at the top of a module, with the statements."""
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

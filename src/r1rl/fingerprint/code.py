"""Hashes of source code: of a module, and of what it imports from the same package or folder. Nothing is imported."""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from r1rl.fingerprint.content import content
from r1rl.imports import dotted

_OURS = ("r1rl_rewards", "r1rl.verify", "r1rl.data.toy", "r1rl.data.countdown")
"""Parts of r1rl that determine rewards and generated rows: in a clone they can change without a new version."""
_WHOLE = "r1rl.verify"
"""Hashed as a whole: it starts modules by name in worker processes, so its imports do not show what it runs."""


@dataclass(frozen=True, slots=True)
class _Module:
    name: str
    file: Path
    package: str
    """Package that its relative imports start from."""


def code_of_file(path: Path) -> dict[str, str]:
    """Hash of a Python file, and of the modules beside it that it imports, directly or not; by module name."""
    root, name = dotted(path.resolve())
    start = _Module(name, path, name.rpartition(".")[0])
    return _closure(start, lambda imported: _ours(imported) or _find(imported, [str(root)]))


def code_of_module(name: str) -> dict[str, str]:
    """Hash of a module, and of what it imports from its own top-level package; empty where there is no such module."""
    top = name.partition(".")[0]
    if not top:
        return {}

    def find(imported: str) -> _Module | None:
        if imported.partition(".")[0] == top != "r1rl":
            return _find(imported)
        return _ours(imported)

    start = _find(name)
    return {} if start is None else _closure(start, find)


def _ours(name: str) -> _Module | None:
    if name.startswith(_WHOLE):
        verify = _find(_WHOLE)
        return verify and _Module(_WHOLE, verify.file.parent, "")
    return _find(name) if name.startswith(_OURS) else None


def _closure(start: _Module, find: Callable[[str], _Module | None]) -> dict[str, str]:
    found: dict[str, str] = {}
    ahead = [start]
    while ahead:
        module = ahead.pop()
        if module.name not in found:
            found[module.name] = content(module.file)
            ahead += [each for name in _imports(module) if (each := find(name)) is not None]
    return dict(sorted(found.items()))


def _imports(module: _Module) -> Iterator[str]:
    """Names that a module imports anywhere in its code: modules, and members that may be modules."""
    for level, base, names in _statements(module.file.read_bytes()) if module.file.suffix == ".py" else ():
        above = module.package.split(".")[: 1 - level or None] if level else []
        start = ".".join(part for part in (*above, base) if part)
        yield from [start] if start else []
        yield from (f"{start}.{name}".strip(".") for name in names)


@functools.lru_cache(maxsize=1024)
def _statements(source: bytes) -> list[tuple[int, str, list[str]]]:
    """Every import in a source: the number of leading dots, the module, and the imported names."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # importing it raises the error
        return []
    found: list[tuple[int, str, list[str]]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(0, alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or "", [alias.name for alias in node.names]))
    return found


def _find(name: str, roots: Sequence[str] | None = None) -> _Module | None:
    """A module's source: found under ``roots``, or else where Python and the loader of reward functions search."""
    parts = name.split(".")
    spec = PathFinder.find_spec(parts[0], roots) if roots is not None else _top(parts[0])
    for end in range(2, len(parts) + 1):
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(".".join(parts[:end]), list(spec.submodule_search_locations))
    if spec is None or spec.origin is None or not spec.has_location or not Path(spec.origin).is_file():
        return None
    return _Module(name, Path(spec.origin), name if spec.submodule_search_locations else name.rpartition(".")[0])


def _top(name: str) -> ModuleSpec | None:
    try:
        found = importlib.util.find_spec(name)
    except ValueError:  # a module in sys.modules without a spec
        found = None
    return found or PathFinder.find_spec(name, [str(Path.cwd())])

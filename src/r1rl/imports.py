"""Imports the code that a configuration names: a file as Python runs a script, a module as ``python -m`` finds it."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_STAMP = "__r1rl_stamp__"
_INSTALLED = ("site-packages", "dist-packages")


def import_module(name: str) -> ModuleType:
    """A module by name, searched among installed packages and then in the current folder, however r1rl was started.

    Raises: ImportError.
    """
    here = str(Path.cwd())
    if "" not in sys.path and here not in sys.path:
        sys.path.append(here)  # a console script, unlike ``python -m``, does not search there
    importlib.invalidate_caches()
    return importlib.import_module(name)


def import_file(path: Path) -> ModuleType:
    """The module in a file, executed once per process and again only after the file has changed.

    It may import its neighbours, by name or, inside a package, relatively: the folder (above the package) is searched
    after the standard library and before installed packages.

    Raises: whatever the file raises.
    """
    path = path.resolve()
    stat = path.stat()
    stamp = (str(path), stat.st_mtime_ns, stat.st_size)
    root, dotted_name = dotted(path)
    _search(root)
    for name in (dotted_name, _private(path)):
        known = sys.modules.get(name)
        if known is not None and getattr(known, _STAMP, (None,))[0] == str(path):
            if getattr(known, _STAMP) == stamp:
                return known
            del sys.modules[name]
    module = importlib.import_module(dotted_name) if _leads_to(dotted_name, path) else _alone(path)
    setattr(module, _STAMP, stamp)
    return module


def dotted(path: Path) -> tuple[Path, str]:
    """The folder that the file's imports start from, and its module name relative to it."""
    folder, parts = path.parent, [path.stem]
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        parts.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(parts)


def _search(folder: Path) -> None:
    if str(folder) in sys.path:
        return
    installed = (index for index, entry in enumerate(sys.path) if Path(entry).name in _INSTALLED)
    sys.path.insert(next(installed, len(sys.path)), str(folder))


def _leads_to(dotted: str, path: Path) -> bool:
    """Whether importing that name would load this file, and not another module of the same name."""
    importlib.invalidate_caches()
    try:
        spec = importlib.util.find_spec(dotted)
    except (ImportError, ValueError, AttributeError):
        return False
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() == path


def _alone(path: Path) -> ModuleType:
    """The file under a unique module name."""
    spec = importlib.util.spec_from_file_location(_private(path), path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickling look their module up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


def _private(path: Path) -> str:
    return f"r1rl_file_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"

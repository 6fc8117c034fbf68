"""Which ways of isolating programs work on this machine."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from r1rl.programs.choice import problem
from r1rl.programs.isolation import Bubblewrap, Isolation, Namespaces
from r1rl.programs.pool import interpreter_cell
from r1rl.programs.roots import Roots
from r1rl.programs.types import ProgramLimits

WAYS = ("bubblewrap", "user namespaces")


@functools.cache
def isolation(name: str) -> Isolation | str:
    """One of ``WAYS``, or why it does not work here."""
    roots = Roots()
    try:
        way: Isolation = Bubblewrap() if name == "bubblewrap" else Namespaces(roots.interpreter)
        return way.missing() or problem(way, interpreter_cell(roots, ProgramLimits())) or way
    finally:
        roots.close()


@functools.cache
def cannot() -> str:
    """Why no program can be run here; empty where one can."""
    found = [isolation(name) for name in WAYS]
    return "" if any(not isinstance(way, str) for way in found) else "; ".join(map(str, found))


@contextmanager
def public_folder() -> Iterator[Path]:
    """A temporary folder that everyone may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="r1rl-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)

"""A public class, or an alias of a type, has one meaning in the whole of the sources."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


def public_types(path: Path) -> Iterator[str]:
    """Classes, and names in CamelCase that are assigned, at the top of a module."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names = [node.name] if isinstance(node, ast.ClassDef) else [t.id for t in targets if isinstance(t, ast.Name)]
        yield from (name for name in names if name[0].isupper() and not name.isupper() and len(name) > 1)


def test_no_name_has_two_meanings() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in [*(ROOT / "src" / "r1rl").rglob("*.py"), *(ROOT / "rewards").rglob("*.py")]:
        for name in public_types(path):
            places[name].append(str(path.relative_to(ROOT)))
    assert places["Problem"] == ["src/r1rl/types.py"]
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert not twice, "import it from one of them, or call each by what it is"

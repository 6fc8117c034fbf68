"""Keys that were renamed: their former names are accepted in this version, with a notice, and removed in the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from r1rl.config.base import KeyPath, Origins, inside_stage
from r1rl.config.schema import RunConfig
from r1rl.config.walk import sections
from r1rl.errors import ConfigError

RENAMED: dict[KeyPath, str] = {
    (*path.split("."), former): name
    for path, section, _ in sections(RunConfig)
    for former, name in section.former_names.items()
}
"""The path of each former name, in which NAME stands for any one part, and the current name of its last part."""


def current(key: KeyPath) -> KeyPath:
    """A path of keys with the current name of its last part."""
    inside = inside_stage(key)
    name = RENAMED.get(inside) or RENAMED.get((inside[0], "NAME", *inside[2:]))
    return (*key[:-1], name) if name else key


def current_name(dotted: str) -> str:
    """:func:`current` of a dotted key."""
    return ".".join(current(tuple(dotted.split("."))))


def with_current_names(layer: Mapping[str, Any], origins: Origins) -> dict[str, Any]:
    """A copy of one file's keys, or of all overrides, under their current names; ``origins`` follows.

    Raises:
        ConfigError: a key is given under both its names.
    """
    return {name: _renamed(value, (name,), origins) for name, value in layer.items()}


def _renamed(value: Any, key: KeyPath, origins: Origins) -> Any:
    if not isinstance(value, Mapping):
        return value
    out: dict[str, Any] = {}
    for name, inner in value.items():
        old = (*key, str(name))
        new = current(old)
        if new != old:
            if new[-1] in value:
                raise ConfigError(_both(old, new, origins))
            origins.rename(old, new)
        out[name if new == old else new[-1]] = _renamed(inner, new, origins)
    return out


def _both(old: KeyPath, new: KeyPath, origins: Origins) -> str:
    first, second = origins.get(old, ""), origins.get(new, "")
    place = f" ({second})" if second else ""
    return (
        f"{first}{': ' if first else ''}{'.'.join(old)} is the former name of {'.'.join(new)}, which is given "
        f"too{place}; remove {'.'.join(old)}"
    )


def notice(origins: Origins) -> str:
    """One line that names every key that was written under its former name and where; empty if none was."""
    found = [f"{origins[new]}: {'.'.join(old)} is called {'.'.join(new)} now" for new, old in origins.former.items()]
    return "; ".join(found) + "; the next version rejects the former name" + "s" * (len(found) > 1) if found else ""

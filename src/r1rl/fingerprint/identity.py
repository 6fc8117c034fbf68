"""Everything that a stage learned from, as plain values, and what changed between two such identities."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import r1rl
from r1rl.config import RunConfig
from r1rl.config.kinds import kind_of
from r1rl.config.paths import is_model, like_a_path
from r1rl.config.references import pick
from r1rl.config.renamed import current_name
from r1rl.errors import StorageError
from r1rl.fingerprint.code import code_of_file, code_of_module
from r1rl.fingerprint.content import content, digest
from r1rl.fingerprint.keys import Effect, default, effect
from r1rl.registry import MAPS, SOURCES
from r1rl.scoring.load import REWARDS

_FUNCTION = re.compile(r"(?P<file>[^:\n]+\.py):\w+|(?P<module>[A-Za-z_]\w*(?:\.\w+)*):\w+")
"""``path/to/file.py:name`` or ``package.module:name``."""
_GENERATED = "generated:"
_NAMES = (".function", ".corpus", ".map")
"""Keys whose value names code, not a path."""
_BY_KEY = ("values", "effects", "contents")
"""Fields of an identity with one entry per key."""
_SHOWN = 60
"""Number of characters of a value shown in a message."""


@dataclass(frozen=True, slots=True)
class Change:
    """One key whose value, file or code has changed."""

    key: str
    what: str
    """The change in words."""
    effect: Effect
    grew: bool = False
    """For a key that sets how long a stage trains: whether it now trains longer."""

    def __str__(self) -> str:
        return self.what


@dataclass(frozen=True, slots=True)
class Identity:
    """What a stage learned from: every configuration key that its kind reads, by dotted name.

    Where the value names a local file, a folder or code, ``contents`` holds the hashes of what it contains: a moved
    file counts as unchanged, an edited one as changed.
    """

    kind: str
    values: dict[str, Any]
    effects: dict[str, str]
    """Effect of each key in this configuration."""
    contents: dict[str, dict[str, str]]
    """Hashes by key: for a file or folder one under its name, for code one per module."""
    version: str = r1rl.__version__

    @classmethod
    def of(cls, kind: str, view: RunConfig) -> Identity:
        """The identity of a stage whose configuration, references resolved, is ``view``; reads every file it names.

        Raises: StorageError if a file cannot be read.
        """
        dumped = view.model_dump(mode="json")
        values = {key: value for part in kind_of(kind).parts for key, value in _leaves(pick(dumped, part), part)}
        effects = {key: effect(kind, key, view) for key in values}
        try:
            named = {key: _named(key, value) for key, value in values.items() if effects[key] is not Effect.FREE}
        except OSError as error:
            raise StorageError(f"cannot read {error.filename}: {error.strerror or error}; allow reading it") from error
        contents = {key: found for key, found in named.items() if found}
        return cls(kind, values, {key: each.value for key, each in effects.items()}, contents)

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> Identity:
        """An identity as it was written to a file, with renamed keys under their current names.

        Raises: TypeError, KeyError, AttributeError if it is not an identity.
        """
        named = {part: {current_name(key): value for key, value in found[part].items()} for part in _BY_KEY}
        return cls(**{**found, **named})

    @property
    def fingerprint(self) -> str:
        """Hash of everything that determines what a step does, and of nothing that determines the number of steps."""
        return digest([self.kind, {key: self._counted(key) for key in self._keys(Effect.LEARNED)}])

    def changes(self, earlier: Identity) -> list[Change]:
        """Differences from an earlier identity of the same stage, except those of free keys, in the order of the keys.

        A key that exists in only one of the two versions of r1rl is not a change while it has its default value.
        """
        if earlier.kind != self.kind:
            return [Change("kind", f"kind {earlier.kind} → {self.kind}", Effect.LEARNED)]
        keys = dict.fromkeys([*self.values, *earlier.values])
        found = [self._change(earlier, key) for key in keys if self._differs(earlier, key)]
        return list({change.key: change for change in found}.values())

    def _differs(self, earlier: Identity, key: str) -> bool:
        if self._effect(key, earlier) is Effect.FREE or self._counted(key) == earlier._counted(key):
            return False
        if key in self.values and key in earlier.values:
            return True
        return self._added(earlier, key) if key in self.values else _removed(earlier, key)

    def _added(self, earlier: Identity, key: str) -> bool:
        """Whether a key that exists only in this identity is a change: it has no default or another value, or belongs
        to something that the user has added, such as a reward."""
        value, known = self.values[key], default(key)
        if value == {}:
            return False
        if known is None or known.value != value:
            return True
        return known.named and not _has_section(earlier, key)

    def _effect(self, key: str, earlier: Identity) -> Effect:
        return Effect(self.effects.get(key) or earlier.effects[key])

    def _keys(self, wanted: Effect) -> list[str]:
        return sorted(key for key, each in self.effects.items() if each == wanted.value)

    def _counted(self, key: str) -> Any:
        """What is compared between identities: contents if there are any, else the value; None if the key is absent."""
        if key not in self.contents:
            return [self.values[key]] if key in self.values else None
        found, value = self.contents[key], self.values[key]
        if isinstance(value, str) and _FUNCTION.fullmatch(value.removeprefix(_GENERATED)):
            name: Any = value.rpartition(":")[2]  # the same module may be given by name or by file
        else:
            name = value if key.endswith(_NAMES) or str(value).startswith(_GENERATED) else ""
        return [name, found if len(found) > 1 else list(found.values())]

    def _change(self, earlier: Identity, key: str) -> Change:
        before, after = earlier.contents.get(key, {}), self.contents.get(key, {})
        effect = self._effect(key, earlier)
        if before and after:
            differs = [each for each in after if before.get(each) != after[each]] or list(before.keys() - after.keys())
            name, where = _end(str(self.values[key])), ", ".join(sorted(differs)[:3])
            inside = f" ({where})" if len(after) > 1 or len(before) > 1 else ""
            return Change(key, f"{key}: what {name} holds{inside}", effect)
        key = self._entry(key) if key not in self.values else earlier._entry(key)
        old, new = earlier._value(key), self._value(key)
        return Change(key, f"{key} {_short(old)} → {_short(new)}", effect, _grew(old, new))

    def _entry(self, key: str) -> str:
        """The shortest prefix of a key under which nothing exists here, such as a reward with all its keys."""
        parts = key.split(".")
        for end in range(1, len(parts)):
            prefix = ".".join(parts[:end])
            if not any(each == prefix or each.startswith(f"{prefix}.") for each in self.values):
                return prefix
        return key

    def _value(self, key: str) -> Any:
        if key in self.values:
            return self.values[key]
        return "given" if any(each.startswith(f"{key}.") for each in self.values) else "absent"


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys of nested mappings with their values; an empty mapping is a value."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}")
    else:
        yield path, value


def _named(key: str, value: Any) -> dict[str, str]:
    """Hashes of the files and the code that a value names."""
    if isinstance(value, list):
        return {f"{i} {name}": hashed for i, each in enumerate(value) for name, hashed in _named(key, each).items()}
    parts = key.split(".")
    if parts[0] == "rewards" and parts[-1] == "function" and len(parts) == 3:
        return _reward(parts[1] if value is None else str(value))
    if key == "pretrain.corpus":
        return code_of_module("r1rl.data.toy")
    if not isinstance(value, str) or not value or "\n" in value:
        return {}
    if parts[-1] == "map":
        return _code(MAPS.entries.get(value, value))
    if value.startswith(_GENERATED):
        name = value.removeprefix(_GENERATED)
        return _code(SOURCES.entries.get(name, name))
    return _code(value) or _local(value, parts)


def _reward(use: str) -> dict[str, str]:
    return _code(_registered().get(use, use))


@functools.cache
def _registered() -> dict[str, str]:
    """Registered rewards and where their code is; installed packages do not change during the life of a process."""
    return dict(REWARDS.entries)


def _code(text: str) -> dict[str, str]:
    match = _FUNCTION.fullmatch(text)
    if match is None:
        return {}
    if match["module"]:
        return code_of_module(match["module"])
    path = Path(match["file"]).expanduser()
    return code_of_file(path) if path.is_file() else {}


def _local(text: str, key: list[str]) -> dict[str, str]:
    """Hashes of a local file or folder, found as :mod:`r1rl.config.paths` does: a plain word that happens to be the
    name of something in the current folder is not a path, except as the ``path`` of a source."""
    if "args" in key:
        meant = like_a_path(text)
    else:
        meant = key[-1] == "path" or "/" in text
    path = Path(text).expanduser()
    if not meant or (key == ["model", "path"] and "/" not in text and not is_model(path)):
        return {}
    try:
        if not path.exists() or path.resolve() in (Path.cwd(), Path.home(), Path(path.anchor)):
            return {}
    except (OSError, RuntimeError):  # too long for a file name, or no home folder
        return {}
    return {path.name: content(path)}


def _short(value: Any) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _end(path: str) -> str:
    return path if len(path) <= _SHOWN else f"…{path[1 - _SHOWN :]}"


def _grew(before: Any, after: Any) -> bool:
    numbers = isinstance(before, int | float) and isinstance(after, int | float)
    return not numbers or after > before


def _removed(earlier: Identity, key: str) -> bool:
    """Whether a key that exists only in the earlier identity is a change: it is still in the schema, and is not an
    empty section, whose new keys are compared themselves."""
    return earlier.values[key] != {} and default(key) is not None


def _has_section(identity: Identity, key: str) -> bool:
    """Whether an identity has any key of the section that ``key`` is in."""
    section = key.rpartition(".")[0]
    return any(each.rpartition(".")[0] == section for each in identity.values)

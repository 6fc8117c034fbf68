"""Merges one set of keys over another: files that extend files, stages over the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1rl.config.base import Origins
from r1rl.config.published import listed
from r1rl.config.references import references_in
from r1rl.config.renamed import with_current_names
from r1rl.config.schema import RunConfig
from r1rl.config.source import read_yaml
from r1rl.errors import ConfigError

# Maps from a name to a section: a null under them takes the name out again.
_SOURCES = ("train", "eval", "held_out")
_NAMED = (("rewards",), ("stages",), *(("data", part) for part in _SOURCES))

# Sections that always exist: written with nothing under them, an empty one is ignored.
_SECTIONS = {name for name, field in RunConfig.model_fields.items() if field.default_factory is not None}


def deep_merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` overridden by ``over``: mappings merge key by key, anything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = deep_merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def overlay(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``deep_merge`` of two configurations; a new ``model.path`` does not inherit the revision of the old one, nor a
    new ``preset`` the keys of the old one."""
    merged = deep_merge(_without_replaced(base, over), over)
    model = over.get("model")
    if isinstance(model, Mapping) and "path" in model and "revision" not in model:
        merged["model"].pop("revision", None)
    return merged


def _without_replaced(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` without the data sources for which ``over`` names a preset."""
    out = dict(base)
    below, above = base.get("data"), over.get("data")
    if isinstance(below, Mapping) and isinstance(above, Mapping):
        out["data"] = dict(below)
        for part in _SOURCES:
            old, new = below.get(part), above.get(part)
            if isinstance(old, Mapping) and isinstance(new, Mapping):
                replaced = {name for name, source in new.items() if isinstance(source, Mapping) and "preset" in source}
                out["data"][part] = {name: source for name, source in old.items() if name not in replaced}
    return out


def expand(layer: Mapping[str, Any]) -> dict[str, Any]:
    """Short forms written out, so that layers merge: ``model: NAME``, ``rewards: {NAME: WEIGHT}``, ``data.eval:
    [PRESET]``, empty sections."""
    out = {key: value for key, value in layer.items() if value is not None or key not in _SECTIONS}
    if isinstance(out.get("model"), str):
        out["model"] = {"path": out["model"]}
    if isinstance(out.get("rewards"), Mapping):
        out["rewards"] = {name: _reward(value) for name, value in out["rewards"].items()}
    if isinstance(out.get("data"), Mapping):
        out["data"] = {key: listed(value) if key in _SOURCES else value for key, value in out["data"].items()}
    if isinstance(out.get("stages"), Mapping):
        out["stages"] = {
            name: expand(stage) if isinstance(stage, Mapping) else stage for name, stage in out["stages"].items()
        }
    return out


def only_source(path: str, prompts: Mapping[str, Any]) -> dict[str, Any]:
    """``data: PATH`` of a stage written out; the source is called after the stage it refers to, or the file."""
    references = references_in(path)
    source = {"path": path, **({"prompts": prompts} if prompts else {})}
    return {"train": {references[0].stage if references else Path(path).stem: source}}


def _reward(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return {"weight": value} if is_number else value


def without_removed(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Drops the rewards, stages and data sources that a later layer set to null."""
    out = dict(raw)
    for first, *rest in _NAMED:
        section = out.get(first)
        if not isinstance(section, Mapping):
            continue
        if not rest:
            out[first] = {name: value for name, value in section.items() if value is not None}
        elif isinstance(section.get(rest[0]), Mapping):
            kept = {name: value for name, value in section[rest[0]].items() if value is not None}
            out[first] = {**section, rest[0]: kept}
    return out


def read_layers(path: Path, seen: tuple[Path, ...] = ()) -> tuple[dict[str, Any], Origins]:
    """A YAML file merged over the one that its ``extends`` names (in its folder, then the current one), recursively.

    Raises:
        ConfigError: a file cannot be read, or extends itself.
    """
    raw, origins = read_yaml(path)
    base_name = raw.pop("extends", None)
    raw = with_current_names(expand(raw), origins)
    if base_name is None:
        return raw, origins
    where = origins[("extends",)]
    if not isinstance(base_name, str):
        raise ConfigError(f"{where}: extends takes one file name, got {base_name!r}")
    beside = path.parent / base_name
    base_path = beside if beside.is_file() or not Path(base_name).is_file() else Path(base_name)
    if base_path.resolve() in (path.resolve(), *(other.resolve() for other in seen)):
        raise ConfigError(f"{where}: {path} extends itself through {base_name}")
    if not base_path.is_file():
        raise ConfigError(f"{where}: extends {base_name}, but {base_path} does not exist")
    base, base_origins = read_layers(base_path, (*seen, path))
    return overlay(base, raw), base_origins.under(origins)

"""Loads a file and overrides into a checked ``RunConfig``; makes one stage's view of it; writes the resolved YAML."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from r1rl.config.base import Origins, explicit
from r1rl.config.checks import check_hub, check_idle_rewards, check_kinds, check_names, check_stage
from r1rl.config.explain import Locate, explain
from r1rl.config.kinds import Conflict, kind_of
from r1rl.config.merge import expand, only_source, overlay, read_layers, without_removed
from r1rl.config.overrides import read_overrides
from r1rl.config.paths import absolute
from r1rl.config.references import references_in
from r1rl.config.renamed import notice, with_current_names
from r1rl.config.schema import RunConfig, StageConfig, stages_of
from r1rl.errors import ConfigError
from r1rl.files import is_own, write_text

log = logging.getLogger(__name__)

RESOLVED = "config.yaml"
"""In a run folder: the configuration of all its stages, which means the same run wherever the folder is moved."""
SECTIONS = tuple(name for name in StageConfig.model_fields if name not in ("kind", "launch"))
"""Sections that a stage may override."""
_ANY_KIND = ("model", "data", "rollout", "rewards")


class StageError(ConfigError):
    """What is wrong with a configuration, item by item."""

    def __init__(self, found: list[str]) -> None:
        super().__init__("; ".join(found))
        self.found = found


def load_config(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a YAML file, lays ``key.sub=value`` overrides over it, and checks every stage of the result.

    A file may name another to build on with ``extends: other.yaml``. Relative paths are resolved from the folder of the
    file that names them, then from the current one (:mod:`r1rl.config.paths`). A null removes a reward or a data source
    that came from there. An algorithm preset fills only keys that were not set. The value of an override is YAML, or
    the text itself where the key takes text (:mod:`r1rl.config.overrides`). The ``config.yaml`` of a run folder means
    that run, wherever the folder was moved.

    Raises:
        ConfigError: one line with all errors: the key, its file and line (or override), what to write.
    """
    raw, origins = read_layers(Path(path))
    if _is_resolved(Path(path), raw):
        raw = raw | _whereabouts(Path(path), raw)
        origins.former.clear()  # written by r1rl, not by the user
    given, given_origins = read_overrides(overrides)
    origins = origins.under(given_origins)
    raw = absolute(without_removed(overlay(raw, given)), origins)

    def locate(key: tuple[str, ...]) -> tuple[str, str]:
        return ".".join(key), origins.find(key)

    run = _validate(raw, origins, locate)
    _raise_found(check_names(run), locate)
    _raise_found(check_kinds(run), locate)
    _raise_found(check_hub(run), locate)
    views = _every_stage(run)
    _raise_found(check_idle_rewards(run, views), locate)
    _reject_idle(run, given_origins)
    if origins.former:
        log.warning(notice(origins))
    return run


def stage_config(run: RunConfig, stage: str) -> RunConfig:
    """The run as one stage sees it: the stage's sections merged over the run's, checked, with that stage alone.

    ``model: NAME`` in a stage is short for ``model: {path: NAME}``. Presets are applied after merging, so a stage
    that changes ``grpo.algorithm`` gets the new one's values for every key that neither it nor the run sets.

    Raises:
        ConfigError: no such stage, or its keys do not fit; keys that the stage wrote are named ``stages.NAME.…``.
    """
    plan = stages_of(run)
    if stage not in plan:
        raise ConfigError(f"no stage {stage}; the run has {', '.join(plan)}")
    own = with_current_names(expand(_stage_sections(plan[stage])), Origins())
    given = explicit(run)
    if isinstance(own.get("data"), str):
        own["data"] = only_source(own["data"], _prompts_behind(run, stage, own["data"]))
        given.get("data", {}).pop("train", None)
    merged = without_removed(overlay(given, own))
    merged["stages"] = {stage: {"kind": plan[stage].kind, "launch": plan[stage].launch}}
    origins = run._origins

    def locate(key: tuple[str, ...]) -> tuple[str, str]:
        inside = ("stages", stage, *key)
        if key[0] == "stages":
            return ".".join(key), origins.find(key)
        if _reaches(own, key):
            return ".".join(inside), origins.find(inside)
        return ".".join(key), origins.find(key)

    resolved = _validate(merged, origins, locate)
    _raise_found(check_stage(run, stage, resolved), locate)
    kind = kind_of(plan[stage].kind)
    if kind.section == "args":
        resolved.args = kind.read_args(resolved.args).model_dump(mode="json")
    return resolved


def _every_stage(run: RunConfig) -> dict[str, RunConfig]:
    """Each stage's view. Raises ConfigError with the errors of all of them, each once."""
    views: dict[str, RunConfig] = {}
    wrong: dict[str, None] = {}
    for name in stages_of(run):
        try:
            views[name] = stage_config(run, name)
        except StageError as error:
            wrong |= dict.fromkeys(error.found)
    if wrong:
        raise ConfigError("; ".join(wrong))
    return views


def _prompts_behind(run: RunConfig, stage: str, path: str) -> dict[str, Any]:
    """The prompt settings of the sources from which an earlier stage made the rows of ``path``."""
    plan = stages_of(run)
    earlier = list(plan)[: list(plan).index(stage)]
    found: dict[str, Any] = {}
    for reference in references_in(path):
        kind = kind_of(plan[reference.stage].kind) if reference.stage in earlier else None
        if kind is not None and "data" in kind.outputs:
            view = stage_config(run, reference.stage)
            mixed = [attrgetter(key)(view) for key in kind.mixes]
            sources = {name: source for each in (*mixed, view.data.train) for name, source in each.items()}
            found |= {name: explicit(source.prompt) for name, source in sources.items() if source.prompt is not None}
    return found


def dump_config(run: RunConfig, path: str | os.PathLike[str]) -> None:
    """Writes the resolved YAML, every default filled in, in one atomic step; loading it gives the same stages."""
    resolved = run.model_dump(mode="json")
    for name, stage in run.stages.items():
        full = stage_config(run, name).model_dump(mode="json")
        sections = {section: full[section] for section in _stage_sections(stage)}
        _mark_removed(resolved, sections)
        resolved["stages"][name] = {"kind": stage.kind, "launch": stage.launch, **sections}
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True, width=100))


def _is_resolved(path: Path, raw: Mapping[str, Any]) -> bool:
    """Whether a file is the ``config.yaml`` of a run folder."""
    has_all = all(key in raw for key in ("output_dir", "name", "stages"))
    return path.name == RESOLVED and has_all and is_own(path.absolute().parent)


def _whereabouts(path: Path, raw: Mapping[str, Any]) -> dict[str, str]:
    """``output_dir`` and ``name`` of the run whose resolved configuration this is, where its folder was moved."""
    folder = path.absolute().parent
    written = Path(str(raw["output_dir"]), str(raw["name"]))
    if written.is_dir() and written.samefile(folder):
        return {}
    return {"output_dir": str(folder.parent), "name": folder.name}


def _validate(raw: Mapping[str, Any], origins: Origins, locate: Locate) -> RunConfig:
    try:
        run = RunConfig.model_validate(raw)
    except ValidationError as error:
        raise StageError([explain(error, raw, locate)]) from error
    run._origins = origins
    return run


def _raise_found(faults: Iterable[Conflict], locate: Locate) -> None:
    lines = []
    for key, message in faults:
        name, where = locate(key)
        lines.append(f"{where}: {name}: {message}" if where else f"{name}: {message}")
    if lines:
        raise StageError(lines)


def _stage_sections(stage: StageConfig) -> dict[str, Any]:
    return {name: value for name in SECTIONS if (value := getattr(stage, name)) is not None}


def _reaches(sections: Mapping[str, Any], key: tuple[str, ...]) -> bool:
    """Whether a stage itself wrote the key, or the section that should hold it."""
    value: Any = sections
    for part in key[:-1]:
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return isinstance(value, Mapping) and key[-1] in value


def _mark_removed(run: Mapping[str, Any], sections: dict[str, Any]) -> None:
    """A stage without one of the run's rewards or sources must set it to null, or loading would add it again."""
    pairs = [(run["rewards"], sections.get("rewards"))]
    pairs += [
        (run["data"][kind], sections["data"][kind]) for kind in ("train", "eval", "held_out") if "data" in sections
    ]
    for whole, part in pairs:
        if part is not None:
            part.update({name: None for name in whole if name not in part})


def _reject_idle(run: RunConfig, given: Origins) -> None:
    """Rejects an override of a run's key that every stage sets itself, because it would change nothing."""
    for key, where in given.items():
        if key[0] not in SECTIONS or len(key) < 2:
            continue
        using = [name for name, stage in run.stages.items() if key[0] in (*_ANY_KIND, kind_of(stage.kind).section)]
        shadowing = [name for name in using if _reaches(expand(_stage_sections(run.stages[name])), key)]
        if using and shadowing == using:
            instead = " or ".join(f"stages.{name}.{'.'.join(key)}" for name in using)
            raise ConfigError(f"{where}: changes nothing, the stages set this key themselves; override {instead}")

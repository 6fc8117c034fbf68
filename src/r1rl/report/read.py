"""Reads a run folder of which any part may be missing or truncated."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import yaml

from r1rl.errors import DataError
from r1rl.records import Row
from r1rl.registry import KINDS
from r1rl.tracking.jsonl import parse, read_jsonl


@dataclass(slots=True)
class Stage:
    """One stage of a run."""

    name: str
    kind: str
    settings: Mapping[str, Any]
    """Its entry under ``stages`` in the configuration."""
    total: int | None = None
    """Planned steps; None where the configuration does not say."""
    metrics: list[Row] = field(default_factory=list)
    """Lines of metrics.jsonl: ``step`` and numbers by name; null where a number was not finite."""
    samples: list[Row] = field(default_factory=list)
    """Lines of samples.jsonl; of a very large file, evenly spaced ones."""
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    """evaluation.json: by source, ids, shares of correct samples and some completions."""
    results: dict[str, float] = field(default_factory=dict)
    """Its figures in results.json, by path: ``arithmetic/pass@1``."""
    written: float | None = None
    """When its metrics were last written, seconds since 1970."""
    complete: bool = False
    """Whether the run has marked it as finished."""
    seconds: float | None = None
    """Duration of its last attempt, in seconds; None until it is finished."""

    @property
    def step(self) -> int:
        """The last step logged; 0 before the first."""
        return int(self.metrics[-1]["step"]) if self.metrics else 0

    @property
    def finished(self) -> bool:
        """Whether it is marked as done, or has its results."""
        return self.complete or bool(self.results)

    @property
    def start(self) -> str:
        """The model it starts from: an earlier stage's name or a path; empty if unknown."""
        model = self.settings.get("model")
        return str((model.get("path") if isinstance(model, Mapping) else model) or "")

    def curve(self, name: str) -> tuple[list[int], list[float]]:
        """Steps and finite values of one metric."""
        points = [(row["step"], row[name]) for row in self.metrics if is_number(row.get(name))]
        return [step for step, _ in points], [float(value) for _, value in points]

    def names(self) -> list[str]:
        """Every metric logged, in the order of its first appearance."""
        return [name for name in dict.fromkeys(key for row in self.metrics for key in row) if name != "step"]


@dataclass(slots=True)
class RunFolder:
    """One run folder."""

    path: Path
    name: str
    config: Mapping[str, Any]
    stages: list[Stage]

    @property
    def seed(self) -> int:
        seed = self.config.get("seed", 0)
        return seed if isinstance(seed, int) else 0

    def stage(self, name: str) -> Stage | None:
        return next((stage for stage in self.stages if stage.name == name), None)


def read_run(path: Path) -> RunFolder:
    """The run in folder ``path``.

    Raises:
        DataError: it is not a run folder.
    """
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; give the folder of a run, for example runs/NAME")
    config = _yaml(path / "config.yaml")
    planned = _planned(config)
    found = [] if planned else sorted(p.parent.name for p in path.glob("*/metrics.jsonl"))
    results = _json(path / "results.json")
    if not config and not found and not results:
        raise DataError(f"{path} is not a run folder: it holds no config.yaml, results.json or STAGE/metrics.jsonl")
    stages = [_stage(path, name, planned.get(name, {}), config, results) for name in [*planned, *found]]
    return RunFolder(path, str(config.get("name") or path.resolve().name), config, stages)


def spread(path: Path, largest: int = 64 << 20, lines: int = 1000) -> list[Row]:
    """The records of a file; of one with more than ``largest`` bytes, ``lines`` of them at even distances.

    Weeks of long completions fill gigabytes; a page shows a few hundred of them.
    """
    size = path.stat().st_size
    if size <= largest:
        return list(read_jsonl(path))
    found: dict[int, Row] = {}
    with path.open("rb") as file:
        for index in range(lines):
            file.seek(size * index // lines)
            if index:
                file.readline()  # the remainder of a line that began earlier
            place = file.tell()
            row = parse(file.readline())
            if row is not None:
                found[place] = row
    return list(found.values())


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a finite number; booleans are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def dig(tree: Any, *keys: str) -> Any:
    """The value under nested keys; None where one is missing."""
    for key in keys:
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(key)
    return tree


def _planned(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    stages = config.get("stages")
    if isinstance(stages, Mapping) and stages:
        return {str(name): stage if isinstance(stage, Mapping) else {} for name, stage in stages.items()}
    if not config:
        return {}
    planned: dict[str, Mapping[str, Any]] = {"grpo": {"kind": "grpo"}}
    if dig(config, "data", "eval"):
        planned["evaluate"] = {"kind": "evaluate", "model": "grpo"}
    return planned


def _stage(
    run: Path, name: str, settings: Mapping[str, Any], config: Mapping[str, Any], results: Mapping[str, Any]
) -> Stage:
    folder = run / name
    metrics, samples = folder / "metrics.jsonl", folder / "samples.jsonl"
    stage = Stage(
        name=name,
        kind=str(settings.get("kind") or "stage"),
        settings=settings,
        metrics=list(read_jsonl(metrics)) if metrics.is_file() else [],
        samples=spread(samples) if samples.is_file() else [],
        evaluation=_json(folder / "evaluation.json"),
        results=flat(results.get(name)),
        written=metrics.stat().st_mtime if metrics.is_file() else None,
        complete=(folder / "stage.json").is_file() or name in results,
    )
    seconds = _json(folder / "stage.json").get("seconds")
    stage.seconds = float(seconds) if is_number(seconds) else None
    stage.total = _steps(stage.kind, settings, config)
    return stage


def _steps(kind: str, settings: Mapping[str, Any], config: Mapping[str, Any]) -> int | None:
    """How many steps a stage will have. Of a kind that a configuration names as ``module:name``, nothing is known: a
    report runs no code that a run folder names."""
    known = KINDS.get(kind)
    if known is None or known.steps is None:
        return None
    keys = [section for whole in (config, settings) if isinstance(section := whole.get(known.section), Mapping)]
    total = known.steps({name: value for section in keys for name, value in section.items()})
    return None if total is None else int(total)


def flat(tree: Any, prefix: str = "") -> dict[str, float]:
    """The finite numbers of a nested mapping by their path; a level called ``metrics`` adds nothing to it."""
    if not isinstance(tree, Mapping):
        return {}
    numbers: dict[str, float] = {}
    for key, value in tree.items():
        path = prefix if key == "metrics" else f"{prefix}/{key}".lstrip("/")
        if is_number(value):
            numbers[path] = float(value)
        else:
            numbers |= flat(value, path)
    return numbers


def _yaml(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return tree if isinstance(tree, Mapping) else {}


def _json(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {error}; delete it, or run the stage again") from error
    return tree if isinstance(tree, Mapping) else {}

"""Several runs on one page: which are seeds of one configuration, and what the others changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1rl.report.read import RunFolder

IDENTITY = ("name", "seed", "output_dir", "tracking", "hub")
"""Keys in which runs of one experiment may differ."""


@dataclass(slots=True)
class Series:
    """Runs that differ only in their seed."""

    label: str
    runs: list[int]


def series_of(runs: Sequence[RunFolder]) -> list[Series]:
    """Groups runs of equal configuration, in order of appearance; labels are unique."""
    by_config: dict[str, list[int]] = {}
    for index, run in enumerate(runs):
        key = json.dumps(_experiment(run.config), sort_keys=True, default=str) if run.config else f"run {index}"
        by_config.setdefault(key, []).append(index)
    labels = [_label([runs[i] for i in indices]) for indices in by_config.values()]
    return [Series(label, indices) for label, indices in zip(unique(labels), by_config.values(), strict=True)]


def differences(runs: Sequence[RunFolder]) -> dict[str, list[str]]:
    """Configuration keys whose values differ, by dotted path: one value per run, empty where the key is missing."""
    flattened = [_flat(_experiment(run.config)) for run in runs]
    paths = dict.fromkeys(path for one in flattened for path in one)
    table = {path: [one.get(path, "") for one in flattened] for path in paths}
    return {path: values for path, values in table.items() if len(set(values)) > 1}


def unique(labels: Sequence[str]) -> list[str]:
    """The labels; repeated ones are numbered."""
    seen: dict[str, int] = {}
    result = []
    for label in labels:
        seen[label] = seen.get(label, 0) + 1
        result.append(label if seen[label] == 1 else f"{label} ({seen[label]})")
    return result


def _experiment(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in IDENTITY}


def _label(runs: Sequence[RunFolder]) -> str:
    if len(runs) == 1:
        return runs[0].name
    shared = _shared([run.name for run in runs]).rstrip("-_./ ").removesuffix("seed").rstrip("-_./ ")
    distinct = len({run.seed for run in runs}) == len(runs)
    return f"{shared or runs[0].name}, {len(runs)} {'seeds' if distinct else 'runs'}"


def _shared(names: Sequence[str]) -> str:
    """The common prefix of the names."""
    length = next((i for i, letters in enumerate(zip(*names, strict=False)) if len(set(letters)) > 1), len(names[0]))
    return names[0][:length]


def _flat(tree: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(tree, Mapping) and tree:
        return {
            path: value
            for key, inner in tree.items()
            for path, value in _flat(inner, f"{prefix}.{key}".lstrip(".")).items()
        }
    return {prefix: json.dumps(tree, ensure_ascii=False, default=str)}

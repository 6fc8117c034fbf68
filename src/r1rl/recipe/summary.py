"""The end of a run on the console: the table of evaluations, some completions, the folder."""

from __future__ import annotations

import json
from pathlib import Path

from r1rl.config import RunConfig, stage_config, stages_of
from r1rl.tracking.console import Console

NOT_SHOWN = frozenset({"problems", "truncated"})
"""Figures of an evaluation that the table leaves out."""


def summarize(folder: Path, config: RunConfig, console: Console) -> None:
    """Print what the evaluations of the run found, model by model."""
    results = json.loads((folder / "results.json").read_text())
    evaluated = {
        name: stage_config(config, name).model.path
        for name, stage in stages_of(config).items()
        if stage.kind == "evaluate" and name in results
    }
    sources = dict.fromkeys(metric.partition("/")[0] for name in evaluated for metric in results[name])
    for source in sources:
        _table(source, {model: _of_source(results[name], source) for name, model in evaluated.items()}, console)
    for name, model in evaluated.items():
        saved = json.loads((folder / name / "evaluation.json").read_text())
        for source, values in saved.items():
            console.samples(f"{model} on {source}", values["samples"])
    console.say(f"run folder: {folder}")


def _of_source(metrics: dict[str, float], source: str) -> dict[str, float]:
    prefix = f"{source}/"
    return {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}


def _table(source: str, rows: dict[str, dict[str, float]], console: Console) -> None:
    rows = {model: metrics for model, metrics in rows.items() if metrics}
    names = [name for name in dict.fromkeys(n for metrics in rows.values() for n in metrics) if name not in NOT_SHOWN]
    problems = int(next(iter(rows.values()))["problems"])
    cells = [[model, *(metrics.get(name) for name in names)] for model, metrics in rows.items()]
    console.table(f"{source}: {problems} held-out problems", ["model", *names], cells)

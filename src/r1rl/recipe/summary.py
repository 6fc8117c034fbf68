"""The end of a run on the console: the table of evaluations, some completions, the folder."""

from __future__ import annotations

import json
from pathlib import Path

from r1rl.config import RunConfig, stages_of
from r1rl.tracking.console import Console

COLUMNS = {"pass@1": "pass@1", "pass@": "pass@k", "maj@": "maj@k", "format": "format", "length": "tokens"}
"""Prefix of a metric's name and its heading; only those that were measured appear."""


def summarize(folder: Path, config: RunConfig, console: Console) -> None:
    """Print what the evaluations of the run found, model by model."""
    results = json.loads((folder / "results.json").read_text())
    evaluated = [
        (name, stage.model if isinstance(stage.model, str) else name)
        for name, stage in stages_of(config).items()
        if stage.kind == "evaluate" and name in results
    ]
    for source in config.data.eval:
        rows = [(model, _of_source(results[name], source)) for name, model in evaluated]
        if rows:
            _table(source, rows, console)
    for name, model in evaluated:
        saved = json.loads((folder / name / "evaluation.json").read_text())
        for source, values in saved.items():
            console.samples(f"{model} on {source}", values["samples"])
    console.say(f"run folder: {folder}")


def _of_source(metrics: dict[str, float], source: str) -> dict[str, float]:
    prefix = f"{source}/"
    return {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}


def _table(source: str, rows: list[tuple[str, dict[str, float]]], console: Console) -> None:
    names = [name for name in rows[0][1] if any(name.startswith(prefix) for prefix in COLUMNS)]
    problems = int(rows[0][1]["problems"])
    cells = [[model, *(metrics.get(name) for name in names)] for model, metrics in rows]
    console.table(f"{source}: {problems} held-out problems", ["model", *names], cells)

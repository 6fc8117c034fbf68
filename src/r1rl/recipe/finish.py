"""The end of a run: its figures and some completions on the console, and its final model on the Hugging Face hub."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from r1rl.config import HubConfig
from r1rl.errors import first_line
from r1rl.files import MANIFEST
from r1rl.recipe.compute import spent
from r1rl.recipe.graph import Node
from r1rl.recipe.record import Done
from r1rl.tracking.console import Console

log = logging.getLogger(__name__)

NOT_SHOWN = frozenset({"problems", "truncated"})
"""Figures of an evaluation that the table leaves out."""


def summarize(folder: Path, nodes: Mapping[str, Node], console: Console) -> None:
    """Print the results of the run's evaluations, model by model, and what each model cost."""
    results = json.loads((folder / "results.json").read_text())
    evaluated = {n: node.view.model.path for n, node in nodes.items() if node.kind == "evaluate" and n in results}
    sources = dict.fromkeys(metric.partition("/")[0] for name in evaluated for metric in results[name])
    for source in sources:
        _table(source, {model: _of_source(results[name], source) for name, model in evaluated.items()}, console)
    _costs([model for model in evaluated.values() if model in nodes], nodes, results, console)
    for name, model in evaluated.items():
        saved = json.loads((folder / name / "evaluation.json").read_text())
        for source, values in saved.items():
            console.samples(f"{model} on {source}", values["samples"])
    console.say(f"run folder: {folder}")


def _costs(
    models: list[str], nodes: Mapping[str, Node], results: Mapping[str, Mapping[str, Any]], console: Console
) -> None:
    rows = []
    for model in dict.fromkeys(models):
        own, all_in = (spent(nodes, results, model, borrowed) for borrowed in (False, True))
        rows.append([model, results.get(model, {}).get("compute/parameters"), f"{own:.3g}", f"{all_in:.3g}"])
    if rows:
        heads = ["model", "parameters", "FLOP of its checkpoints", "and of its teachers and rewards"]
        console.table("compute: 6·N per trained token, 2·N per generated one", heads, rows)


def _of_source(metrics: dict[str, float], source: str) -> dict[str, float]:
    prefix = f"{source}/"
    return {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}


def _table(source: str, rows: dict[str, dict[str, float]], console: Console) -> None:
    rows = {model: metrics for model, metrics in rows.items() if metrics}
    names = [name for name in dict.fromkeys(n for metrics in rows.values() for n in metrics) if name not in NOT_SHOWN]
    problems = int(next(iter(rows.values()))["problems"])
    cells = [[model, *(metrics.get(name) for name in names)] for model, metrics in rows.items()]
    console.table(f"{source}: {problems} held-out problems", ["model", *names], cells)


def push_final(hub: HubConfig, final: str, done: Mapping[str, Done], run: Path) -> None:
    """Upload what stage ``final`` made, if it is done; files that are there already are not sent again."""
    if final in done:
        made = done[final].paths(run)
        push(made["folder"] if "folder" in made else made["model"], hub)


def push(folder: Path, hub: HubConfig) -> None:
    """Upload the saved model. A failed upload is only a warning, so that it cannot fail a run of several days: the
    model stays in its folder."""
    api = HfApi()
    try:
        api.create_repo(hub.repo, private=hub.private, exist_ok=True)
        api.upload_folder(repo_id=hub.repo, folder_path=folder, ignore_patterns=[MANIFEST])
    except Exception as error:  # whatever the hub's HTTP and storage clients raise
        log.warning(
            f"could not push to {hub.repo} ({first_line(error)}); the model is in {folder}, and the same command "
            "tries again"
        )
    else:
        log.info(f"pushed {folder} to {hub.repo}")

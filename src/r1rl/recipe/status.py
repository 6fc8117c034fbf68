"""``r1rl status RUN``: which stages of a run folder are done, their results, what comes next."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from r1rl.config import load_config
from r1rl.errors import ConfigError
from r1rl.recipe import record
from r1rl.recipe.graph import graph
from r1rl.recipe.plan import explain
from r1rl.recipe.verdict import StageState, forecast
from r1rl.tracking.console import Console, duration, shown

_FIGURES = 3


def status(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.", show_default=False)],
) -> None:
    """Show which stages of a run are done, their results and when."""
    if not (run / "config.yaml").is_file():
        raise ConfigError(f"{run} is not a run folder: it has no config.yaml; name the folder that `r1rl run` printed")
    rows = []
    nodes = graph(load_config(run / "config.yaml"))
    verdicts = forecast(nodes, run)
    for name, node in nodes.items():
        state = verdicts[name].state
        known = record.read(run / name) if state in (StageState.DONE, StageState.WAIT) else None
        rows.append(
            [
                name,
                node.kind,
                state.value,
                duration(known.seconds) if known else "",
                _last_sign(run / name),
                _figures(known),
            ]
        )
    Console().table(str(run), ["stage", "kind", "state", "took", "last written", "found"], rows)
    explain(verdicts, Console())


def _figures(done: record.Done | None) -> str:
    values = {k: v for k, v in (done.metrics if done else {}).items() if isinstance(v, int | float) and "/" not in k}
    chosen = values or {k: v for k, v in (done.metrics if done else {}).items() if isinstance(v, int | float)}
    return "  ".join(f"{name} {shown(value)}" for name, value in list(chosen.items())[:_FIGURES])


def _last_sign(folder: Path) -> str:
    files = [file for file in folder.iterdir() if file.is_file()] if folder.is_dir() else []
    newest = max((file.stat().st_mtime for file in files), default=None)
    return "" if newest is None else f"{duration(max(0.0, time.time() - newest))} ago"

"""The report: one self-contained HTML file; it needs neither network nor server."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from r1rl.errors import writing
from r1rl.files import check_generated, write_text
from r1rl.report import tables
from r1rl.report.compare import series_of, unique
from r1rl.report.curves import curves
from r1rl.report.diagnose import questions, stage_of_interest
from r1rl.report.panels import panels_of
from r1rl.report.read import RunFolder, dig, read_run
from r1rl.report.render import render
from r1rl.report.samples import samples_of
from r1rl.tracking.console import visible

LICENCES = ("vendor/uPlot.LICENSE.txt",)
SCRIPTS = ("vendor/uPlot.iife.min.js", "dom.js", "charts.js", "completions.js", "main.js")
STYLES = ("vendor/uPlot.min.css", "report.css")
KICKER = '<p class="kicker">r1rl report</p>'
"""Stands in every page (templates/page.html): only a file that contains it is overwritten."""
SECTIONS = {
    "summary": "Summary",
    "results": "Results",
    "curves": "Curves",
    "completions": "Completions",
    "metrics": "All metrics",
    "configuration": "Configuration",
}


def write_report(run_dir: Path) -> Path:
    """Write ``run_dir/report.html`` about that run alone; returns its path. Replaces an earlier one atomically."""
    return write_page([run_dir], run_dir / "report.html")


def write_page(run_dirs: Sequence[Path], out: Path, now: float | None = None) -> Path:
    """Write a page about one or several runs to ``out``.

    Args:
        now: the current time, seconds since 1970; None reads the clock.

    Raises:
        DataError: a folder is not a run folder.
        ForeignError: ``out`` is a file that r1rl did not write.
        StorageError: ``out`` cannot be written.
    """
    html = page([read_run(path) for path in run_dirs], time.time() if now is None else now)
    with writing(out):
        check_generated(out, KICKER)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, html)
    return out


def page(runs: Sequence[RunFolder], now: float) -> str:
    """The whole document."""
    style = "\n".join(map(_asset, STYLES))
    licences = "".join(f"/*!\n{_asset(name)}\n*/\n" for name in LICENCES)
    script = licences + "'use strict';\n(() => {\n" + "\n".join(map(_asset, SCRIPTS)) + "\n})();\n"
    names = unique([visible(run.name) for run in runs])
    return render(
        "page.html",
        title=names[0] if len(names) == 1 else f"{len(names)} runs: {', '.join(names)}",
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        sections=SECTIONS,
        headline=tables.headline(runs),
        written=time.strftime("%Y-%m-%d %H:%M", time.localtime(now)),
        names=names,
        answers=[questions(run, now) for run in runs],
        results=tables.results(runs, series_of(runs)),
        stages=tables.stages(runs, names),
        metrics=tables.metrics(runs, names),
        differing=tables.differing(runs),
        configs=tables.configurations(runs, names),
        data=_data(runs, names),
    )


def _data(runs: Sequence[RunFolder], names: Sequence[str]) -> dict[str, Any]:
    """The data that the page's scripts draw."""
    logged: dict[str, dict[str, set[float]]] = {}
    for each in (stage for run in runs for stage in run.stages):
        for name in each.names():
            if values := each.curve(name)[1]:
                logged.setdefault(each.name, {}).setdefault(name, set()).update(values)
    interest = next((stage.name for run in runs if (stage := stage_of_interest(run))), None)
    return {
        "runs": [
            {
                "name": name,
                "seed": run.seed,
                "stages": {s.name: curves(s, len(runs)) for s in run.stages if s.metrics},
            }
            for run, name in zip(runs, names, strict=True)
        ],
        "series": [{"label": visible(s.label), "runs": s.runs} for s in series_of(runs)],
        "stages": [
            {"name": stage, "panels": panels_of(every, {name for name, values in every.items() if len(values) == 1})}
            for stage, every in logged.items()
        ],
        "interest": interest,
        "samples": samples_of(runs),
        "rewards": list(dict.fromkeys(k for run in runs for k in dig(run.config, "rewards") or {})),
    }


def _policy(style: str, script: str) -> str:
    """The content security policy: nothing is fetched, and only the page's own script and style apply."""
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _asset(name: str) -> str:
    return (files("r1rl.report") / "assets" / name).read_text(encoding="utf-8")

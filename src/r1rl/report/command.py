"""``r1rl report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from r1rl.errors import writing
from r1rl.files import check_generated, write_text
from r1rl.report.page import write_page
from r1rl.report.read import read_run
from r1rl.report.svg import DEFAULT_METRICS, MARK, learning_curve

Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders; several are compared.")]
PageFile = Annotated[
    Path | None, typer.Option(help="Where to write it; RUN/report.html if left out.", show_default=False)
]
Svg = Annotated[Path | None, typer.Option(help="Also draw the learning curve to this file.", show_default=False)]
MetricNames = Annotated[list[str] | None, typer.Option("--metric", help="A metric to draw in it.", show_default=False)]


def report(runs: Runs, out: PageFile = None, svg: Svg = None, metric: MetricNames = None) -> None:
    """Write one self-contained HTML page about one or several runs."""
    target = out or (runs[0] / "report.html" if len(runs) == 1 else Path("report.html"))
    print(f"wrote {write_page(runs, target)}")
    if svg is not None:
        drawn = learning_curve([read_run(path) for path in runs], metric or DEFAULT_METRICS)
        with writing(svg):
            check_generated(svg, MARK)
            svg.parent.mkdir(parents=True, exist_ok=True)
            write_text(svg, drawn)
        print(f"wrote {svg}")

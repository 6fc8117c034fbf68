"""The learning curve as a standalone SVG file that follows the viewer's light or dark theme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from statistics import fmean

from r1rl.errors import DataError
from r1rl.report.compare import series_of
from r1rl.report.diagnose import stage_of_interest
from r1rl.report.read import RunFolder
from r1rl.report.render import render
from r1rl.tracking.console import visible
from r1rl.tracking.names import describe

DEFAULT_METRICS = ("reward/accuracy/mean", "reward/format/mean")
WIDTH, HEIGHT = 800, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 168, 48, 44
MARK = 'text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #57585f; }'
"""Stands in every picture (templates/curve.svg): only a file that contains it is overwritten."""

Points = list[tuple[float, float]]


def learning_curve(runs: Sequence[RunFolder], metrics: Sequence[str], title: str = "") -> str:
    """Metrics of each run's stage of interest over its steps: thin lines for seeds, a bold one for their mean.

    Raises:
        DataError: no run has logged any of the metrics.
    """
    stages = [stage for run in runs if (stage := stage_of_interest(run)) is not None]
    drawn: dict[str, list[Points]] = {}
    for name in metrics[:4]:
        curves = [list(zip(*stage.curve(name), strict=True)) for stage in stages]
        if any(curves):
            drawn[name] = [[(float(s), v) for s, v in curve] for curve in curves if curve]
    if not drawn:
        raise DataError(f"none of {', '.join(metrics)} was logged; choose another with --metric")
    points = [point for curves in drawn.values() for curve in curves for point in curve]
    return _picture(title or visible(", ".join(series.label for series in series_of(runs))), drawn, points)


@dataclass(frozen=True, slots=True)
class Plane:
    """Converts steps and values to coordinates of the picture, with one decimal."""

    last: float
    low: float
    high: float

    def x(self, step: float) -> float:
        return round(LEFT + step / max(1.0, self.last) * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - self.low) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM), 1)

    def path(self, points: Points) -> str:
        """An SVG path through the points."""
        return "M" + "L".join(f"{self.x(step)} {self.y(value)}" for step, value in points)


def _picture(title: str, drawn: dict[str, list[Points]], points: Points) -> str:
    last = max(step for step, _ in points)
    low, high = min(0.0, *(v for _, v in points)), max(v for _, v in points)
    shares = low >= 0 and high <= 1
    plane = Plane(last, low, 1.0 if shares else (high if high > low else low + 1))
    places = _apart({name: plane.y(mean_curve(curves)[-1][1]) for name, curves in drawn.items()})
    lines = [
        {
            "label": _short(name),
            "y": places[name],
            "mean": plane.path(mean_curve(curves)),
            "seeds": [plane.path(curve) for curve in curves] if len(curves) > 1 else [],
        }
        for name, curves in drawn.items()
    ]
    return render(
        "curve.svg",
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=WIDTH - RIGHT,
        middle=plane.x(last / 2),
        title=title,
        meaning="; ".join(f"{_short(n)}: {metric.meaning}" for n in drawn if (metric := describe(n))),
        rows=[(plane.y(t), f"{100 * t:.0f} %" if shares else f"{t:g}") for t in _ticks(low, plane.high)],
        columns=[(plane.x(t), f"{t:g}") for t in _ticks(0, last)],
        lines=lines,
    )


def mean_curve(curves: Sequence[Points]) -> Points:
    """Mean over the curves at each step that all of them have; if they share none, the first curve."""
    values: dict[float, list[float]] = {}
    for curve in curves:
        for step, value in curve:
            values.setdefault(step, []).append(value)
    shared = [(step, fmean(found)) for step, found in sorted(values.items()) if len(found) == len(curves)]
    return shared or list(curves[0])


def _short(name: str) -> str:
    return name.removesuffix("/mean").rpartition("/")[2].replace("_", " ")


def _ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough - 1e-12)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _apart(places: dict[str, float], least: float = 18.0) -> dict[str, float]:
    """Moves labels down until none overlap, then all up if the last left the picture."""
    moved: dict[str, float] = {}
    previous = -math.inf
    for name, place in sorted(places.items(), key=itemgetter(1)):
        previous = moved[name] = max(place, previous + least)
    over = max(0.0, previous - (HEIGHT - BOTTOM))
    return {name: place - over for name, place in moved.items()}

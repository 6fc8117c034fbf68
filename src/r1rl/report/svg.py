"""The learning curve as a picture of its own: an SVG text file that follows the reader's light or dark theme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from r1rl.errors import DataError
from r1rl.report.compare import series_of
from r1rl.report.diagnose import stage_of_interest
from r1rl.report.html import Markup, join, tag
from r1rl.report.read import Run
from r1rl.tracking.console import visible
from r1rl.tracking.names import describe

DEFAULT_METRICS = ("reward/accuracy/mean", "reward/format/mean")
WIDTH, HEIGHT = 800, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 168, 48, 44
STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #57585f; }
.title { font-size: 16px; font-weight: 600; fill: #1c1d21; }
.grid { stroke: #e3e0d8; }
.c0 { color: #2c57c9; } .c1 { color: #cf5a1b; } .c2 { color: #1b8a5a; } .c3 { color: #9447c2; }
.line { fill: none; stroke: currentColor; stroke-width: 2.5; stroke-linejoin: round; }
.seed { fill: none; stroke: currentColor; stroke-width: 1; opacity: .35; }
.name { fill: currentColor; font-weight: 600; }
@media (prefers-color-scheme: dark) {
  text { fill: #a0a1ab; } .title { fill: #ececf0; } .grid { stroke: #33363e; }
  .c0 { color: #86a9ff; } .c1 { color: #ff9a5c; } .c2 { color: #55cf95; } .c3 { color: #cf95f5; }
}
"""

Points = list[tuple[float, float]]


def learning_curve(runs: Sequence[Run], metrics: Sequence[str], title: str = "") -> str:
    """Metrics of each run's stage of interest over its steps: every seed thin, their mean bold.

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
        raise DataError(f"none of {', '.join(metrics)} was logged; name another with --metric")
    points = [point for curves in drawn.values() for curve in curves for point in curve]
    return _picture(title or visible(", ".join(series.label for series in series_of(runs))), drawn, points)


def _picture(title: str, drawn: dict[str, list[Points]], points: Points) -> str:
    last = max(step for step, _ in points)
    low, high = min(0.0, *(v for _, v in points)), max(v for _, v in points)
    shares = low >= 0 and high <= 1
    high = 1.0 if shares else (high if high > low else low + 1)

    def x(step: float) -> float:
        return LEFT + step / max(1.0, last) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [tag("style", Markup(STYLE)), tag("text", title, x=LEFT, y=26, class_="title")]
    for tick in _ticks(low, high):
        label = f"{100 * tick:.0f} %" if shares else f"{tick:g}"
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=f"{y(tick):.1f}", y2=f"{y(tick):.1f}", class_="grid"))
        parts.append(tag("text", label, x=LEFT - 8, y=f"{y(tick) + 4:.1f}", text_anchor="end"))
    parts += [tag("text", f"{t:g}", x=f"{x(t):.1f}", y=HEIGHT - 22, text_anchor="middle") for t in _ticks(0, last)]
    parts.append(tag("text", "step", x=f"{x(last / 2):.1f}", y=HEIGHT - 5, text_anchor="middle"))
    names = _apart({name: y(mean_curve(curves)[-1][1]) for name, curves in drawn.items()})
    for index, (name, curves) in enumerate(drawn.items()):
        seeds = [tag("path", d=_path(c, x, y), class_="seed") for c in curves] if len(curves) > 1 else []
        line = tag("path", d=_path(mean_curve(curves), x, y), class_="line")
        label = tag("text", _short(name), x=WIDTH - RIGHT + 10, y=f"{names[name] + 4:.1f}", class_="name")
        parts.append(tag("g", *seeds, line, label, class_=f"c{index}"))
    meaning = "; ".join(f"{_short(n)}: {metric.meaning}" for n in drawn if (metric := describe(n)))
    head = join(tag("title", title), tag("desc", meaning))
    view = f"0 0 {WIDTH} {HEIGHT}"
    return tag("svg", head, *parts, xmlns="http://www.w3.org/2000/svg", viewBox=view, role="img") + "\n"


def mean_curve(curves: Sequence[Points]) -> Points:
    """Mean over the curves at each step that all of them have; where they share none, the first curve."""
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
    """The places pushed down until no two labels overlap, then up where they left the picture."""
    moved: dict[str, float] = {}
    previous = -math.inf
    for name, place in sorted(places.items(), key=lambda item: item[1]):
        previous = moved[name] = max(place, previous + least)
    over = max(0.0, previous - (HEIGHT - BOTTOM))
    return {name: place - over for name, place in moved.items()}


def _path(points: Points, x: object, y: object) -> str:
    assert callable(x)
    assert callable(y)
    return "M" + "L".join(f"{x(step):.1f} {y(value):.1f}" for step, value in points)

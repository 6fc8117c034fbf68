"""What the page's tables hold: results, stages, metrics, configuration. Their markup is templates/tables.html."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import yaml

from r1rl.report.compare import Series, differences
from r1rl.report.diagnose import stage_of_interest
from r1rl.report.read import RunFolder, Stage
from r1rl.report.symptoms import percent
from r1rl.tracking.console import duration, shown
from r1rl.tracking.names import describe

COLUMNS = (r"pass@1", r"pass@\d+", r"maj@\d+", r"format", r"length", r"truncated")
"""Order of the figures of an evaluation; others follow."""
SHARES = re.compile(r"pass@\d+|maj@\d+|format|truncated|accuracy|language")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of an evaluation: the mean over seeds, their spread, and the value of its bar if it is a share."""

    text: str
    spread: str
    share: float | None


@dataclass(frozen=True, slots=True)
class Results:
    """The table of one evaluation source: for each row its labels and its figures, None where it has none."""

    caption: str
    head: list[str]
    rows: list[tuple[list[str], list[Figure | None]]]


@dataclass(frozen=True, slots=True)
class StageRow:
    """One stage of a run, as text."""

    run: str
    stage: str
    kind: str
    start: str
    steps: str
    time: str
    state: str


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric with its figures, one per column of the table's head."""

    name: str
    unit: str
    meaning: str
    figures: list[str]


@dataclass(frozen=True, slots=True)
class MetricsTable:
    """The table of all metrics; ``head`` names the columns of figures."""

    head: list[str]
    rows: list[MetricRow]


def results(runs: Sequence[RunFolder], series: Sequence[Series]) -> list[Results]:
    """What evaluations found, a table per source: one row per model, seeds as mean ± standard deviation."""
    evaluated = {stage.name: stage for run in runs for stage in run.stages if stage.kind == "evaluate"}
    sources = dict.fromkeys(k.rpartition("/")[0] for r in runs for s in r.stages for k in _figures(s))
    return [_source(source, runs, series, evaluated) for source in sources]


def _figures(stage: Stage) -> dict[str, float]:
    return stage.results if stage.kind == "evaluate" else {}


def _source(
    source: str, runs: Sequence[RunFolder], series: Sequence[Series], evaluated: Mapping[str, Stage]
) -> Results:
    gathered: list[tuple[str, str, dict[str, list[float]]]] = []
    for one in series:
        for name, stage in evaluated.items():
            found = [_of_source(runs[i], name, source) for i in one.runs]
            figures = {key: [f[key] for f in found if key in f] for key in dict.fromkeys(k for f in found for k in f)}
            if figures:
                gathered.append((one.label, stage.start or name, figures))
    problems = {int(v) for _, _, figures in gathered for v in figures.pop("problems", [])}
    names = sorted(dict.fromkeys(k for *_, figures in gathered for k in figures), key=_place)
    several = len(series) > 1
    rows = [
        ([*([label] if several else []), model], [_figure(name, figures.get(name, [])) for name in names])
        for label, model, figures in gathered
    ]
    many = f", {' or '.join(f'{n:,}' for n in sorted(problems))} problems" if problems else ""
    seeds = "; mean ± standard deviation over seeds" if any(len(one.runs) > 1 for one in series) else ""
    return Results(f"{source}{many}{seeds}", [*(["Run"] if several else []), "Model", *names], rows)


def _of_source(run: RunFolder, stage: str, source: str) -> dict[str, float]:
    found = run.stage(stage)
    figures = _figures(found) if found else {}
    return {name.rpartition("/")[2]: v for name, v in figures.items() if name.rpartition("/")[0] == source}


def _place(name: str) -> tuple[int, str]:
    return next((i for i, pattern in enumerate(COLUMNS) if re.fullmatch(pattern, name)), len(COLUMNS)), name


def _figure(name: str, values: Sequence[float]) -> Figure | None:
    if not values:
        return None
    mean = fmean(values)
    if SHARES.fullmatch(name):
        spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
        return Figure(f"{100 * mean:.1f} %", spread, mean)
    return Figure(f"{mean:.4g}", f" ± {stdev(values):.2g}" if len(values) > 1 else "", None)


def stages(runs: Sequence[RunFolder], names: Sequence[str]) -> list[StageRow]:
    """Every stage of every run: kind, start, progress and duration."""
    return [_stage(name, stage) for run, name in zip(runs, names, strict=True) for stage in run.stages]


def _stage(run: str, stage: Stage) -> StageRow:
    _, steps_s = stage.curve("time/step")
    seconds = max(stage.seconds or 0.0, sum(steps_s))
    steps = f"{stage.step:,}" + (f" of {stage.total:,}" if stage.total and stage.total != stage.step else "")
    return StageRow(
        run=run,
        stage=stage.name,
        kind=stage.kind,
        start=stage.start,
        steps=steps if stage.metrics else "",
        time=duration(seconds) if seconds else "",
        state="done" if stage.finished else ("under way" if stage.metrics else "to come"),
    )


def metrics(runs: Sequence[RunFolder], names: Sequence[str]) -> MetricsTable:
    """Every metric of each run's stage of interest: four figures of one run, the last value of each of several."""
    found = [stage for run in runs if (stage := stage_of_interest(run)) is not None]
    every = dict.fromkeys(name for stage in found for name in stage.names())
    head = ["first", "last", "lowest", "highest"] if len(found) == 1 else [f"{name}, last" for name in names]
    rows = []
    for name in sorted(every):
        metric = describe(name)
        values = [stage.curve(name)[1] for stage in found]
        if len(found) == 1:
            v = values[0]
            figures = [shown(x) for x in (v[0], v[-1], min(v), max(v))] if v else ["", "", "", ""]
        else:
            figures = [shown(v[-1]) if v else "" for v in values]
        rows.append(MetricRow(name, metric.unit if metric else "", metric.meaning if metric else "", figures))
    return MetricsTable(head, rows)


def configurations(runs: Sequence[RunFolder], names: Sequence[str]) -> list[tuple[str, str]]:
    """Each run's name and config.yaml as text; runs without one are left out."""
    return [
        (name, yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True))
        for run, name in zip(runs, names, strict=True)
        if run.config
    ]


def differing(runs: Sequence[RunFolder]) -> dict[str, list[str]]:
    """Keys in which several runs differ, with one value per run; none of a single run."""
    return differences(runs) if len(runs) > 1 else {}


def headline(runs: Sequence[RunFolder]) -> str:
    """Algorithm, seeds and progress, in one line."""
    algorithms = dict.fromkeys(str(r.config["grpo"]["algorithm"]) for r in runs if _has_algorithm(r))
    seeds = sorted({run.seed for run in runs})
    parts = [
        f"algorithm {', '.join(algorithms)}" if algorithms else "",
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}",
        f"{len(runs)} runs" if len(runs) > 1 else f"{percent(_progress(runs[0]))} of its stages done",
    ]
    return " · ".join(filter(None, parts))


def _has_algorithm(run: RunFolder) -> bool:
    section = run.config.get("grpo")
    return isinstance(section, Mapping) and "algorithm" in section


def _progress(run: RunFolder) -> float:
    return fmean([float(stage.finished) for stage in run.stages]) if run.stages else 0.0

"""The parts of the page that are text: answers, results, stages, metrics, configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import yaml

from r1rl.report.compare import Series, differences
from r1rl.report.diagnose import Finding, percent, stage_of_interest
from r1rl.report.html import Markup, join, tag
from r1rl.report.read import Run, Stage
from r1rl.tracking.console import duration, shown, visible
from r1rl.tracking.names import describe

COLUMNS = (r"pass@1", r"pass@\d+", r"maj@\d+", r"format", r"length", r"truncated")
"""Figures of an evaluation in the order of a reader's interest; others follow."""
SHARES = re.compile(r"pass@\d+|maj@\d+|format|truncated|accuracy|language")
WORDS = {"good": "✓", "unknown": "…", "warn": "!", "bad": "✗"}


def cards(questions: Mapping[str, Finding]) -> Markup:
    """One card a question."""
    return tag("div", *(_card(question, finding) for question, finding in questions.items()), class_="cards")


def _card(question: str, finding: Finding) -> Markup:
    return tag(
        "article",
        tag("h3", question),
        tag("p", _mark(finding.level), " ", visible(finding.words), class_="answer"),
        tag("ul", *(tag("li", visible(reason)) for reason in finding.why)) if finding.why else None,
        class_=f"card {finding.level}",
    )


def answers(names: Sequence[str], by_run: Sequence[Mapping[str, Finding]]) -> Markup:
    """One row a run, for a page of several."""
    rows = [
        [name, *(join(_mark(f.level), " ", visible(f.words), _why(f)) for f in findings.values())]
        for name, findings in zip(names, by_run, strict=True)
    ]
    return table(["Run", *by_run[0]], rows)


def _why(finding: Finding) -> Markup | None:
    return tag("small", " ".join(visible(reason) for reason in finding.why)) if finding.why else None


def _mark(level: str) -> Markup:
    return tag("span", WORDS[level], class_=f"mark {level}", aria_hidden="true")


def results(runs: Sequence[Run], series: Sequence[Series]) -> Markup | None:
    """What evaluations found, a table a source: one row a model, seeds as mean ± standard deviation."""
    evaluated = {stage.name: stage for run in runs for stage in run.stages if stage.kind == "evaluate"}
    sources = dict.fromkeys(k.rpartition("/")[0] for r in runs for s in r.stages for k in _figures(s))
    tables = [_source(source, runs, series, evaluated) for source in sources]
    return join(*tables) if tables else None


def _figures(stage: Stage) -> dict[str, float]:
    return stage.results if stage.kind == "evaluate" else {}


def _source(source: str, runs: Sequence[Run], series: Sequence[Series], evaluated: Mapping[str, Stage]) -> Markup:
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
        [*([label] if several else []), model, *(_figure(name, figures.get(name, [])) for name in names)]
        for label, model, figures in gathered
    ]
    head = [*(["Run"] if several else []), "Model", *names]
    many = f", {' or '.join(f'{n:,}' for n in sorted(problems))} problems" if problems else ""
    seeds = "; mean ± standard deviation over seeds" if any(len(one.runs) > 1 for one in series) else ""
    return table(head, rows, caption=f"{visible(source)}{many}{seeds}")


def _of_source(run: Run, stage: str, source: str) -> dict[str, float]:
    found = run.stage(stage)
    figures = _figures(found) if found else {}
    return {name.rpartition("/")[2]: v for name, v in figures.items() if name.rpartition("/")[0] == source}


def _place(name: str) -> tuple[int, str]:
    return next((i for i, pattern in enumerate(COLUMNS) if re.fullmatch(pattern, name)), len(COLUMNS)), name


def _figure(name: str, values: Sequence[float]) -> Markup | str:
    if not values:
        return ""
    mean, share = fmean(values), SHARES.fullmatch(name)
    spread = ""
    if len(values) > 1:
        spread = f" ± {100 * stdev(values):.1f}" if share else f" ± {stdev(values):.2g}"
    text = _number(mean, bool(share)) + (" %" if share else "")
    meter = tag("meter", value=f"{mean:.4f}", min="0", max="1", aria_hidden="true") if share else None
    return tag("span", tag("b", text), spread, meter, class_="figure")


def _number(value: float, share: bool) -> str:
    return f"{100 * value:.1f}" if share else f"{value:.4g}"


def stages(runs: Sequence[Run]) -> Markup:
    """Every stage: what it does, from what, how far, how long."""
    several = len(runs) > 1
    rows = [[*([run.name] if several else []), *_stage(stage)] for run in runs for stage in run.stages]
    whole = table([*(["Run"] if several else []), "Stage", "Kind", "Starts from", "Steps", "Time", "State"], rows)
    return tag("details", tag("summary", f"Every stage of {len(runs)} runs"), whole) if several else whole


def _stage(stage: Stage) -> list[Any]:
    _, steps_s = stage.curve("time/step")
    seconds = max(stage.seconds or 0.0, sum(steps_s))
    steps = f"{stage.step:,}" + (f" of {stage.total:,}" if stage.total and stage.total != stage.step else "")
    state = "done" if stage.finished else ("under way" if stage.metrics else "to come")
    return [
        tag("b", visible(stage.name)),
        visible(stage.kind),
        visible(stage.start),
        steps if stage.metrics else "",
        duration(seconds) if seconds else "",
        tag("span", state, class_=f"state {state.replace(' ', '-')}"),
    ]


def metrics(runs: Sequence[Run], names: Sequence[str]) -> Markup:
    """Every metric of each run's stage of interest, with unit, meaning and figures."""
    interest = [stage_of_interest(run) for run in runs]
    curves = [stage for stage in interest if stage is not None]
    every = dict.fromkeys(name for stage in curves for name in stage.names())
    head = ["first", "last", "lowest", "highest"] if len(curves) == 1 else [f"{name}, last" for name in names]
    rows = []
    for name in sorted(every):
        metric = describe(name)
        values = [stage.curve(name)[1] for stage in curves]
        if len(curves) == 1:
            v = values[0]
            figures = [shown(x) for x in (v[0], v[-1], min(v), max(v))] if v else ["", "", "", ""]
        else:
            figures = [shown(v[-1]) if v else "" for v in values]
        meaning = (metric.unit, metric.meaning) if metric else ("", "")
        rows.append([tag("code", visible(name)), *meaning, *figures])
    return table(["Metric", "Unit", "Meaning", *head], rows, numbers=3)


def configuration(runs: Sequence[Run], names: Sequence[str]) -> Markup:
    """Where several runs differ, then each whole configuration, folded."""
    differing = differences(runs) if len(runs) > 1 else {}
    rows = [[tag("code", path), *(tag("code", visible(v)) for v in values)] for path, values in differing.items()]
    folded = [
        tag(
            "details",
            tag("summary", f"config.yaml of {visible(name)}"),
            tag("pre", visible(yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True)), tabindex="0"),
        )
        for run, name in zip(runs, names, strict=True)
        if run.config
    ]
    return join(table(["Key", *names], rows, caption="What differs") if rows else None, *folded)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "", numbers: int | None = None) -> Markup:
    """A table that scrolls by itself on a narrow screen; columns from ``numbers`` on are right-aligned."""
    cells = [
        tag("tr", *(tag("td", cell, class_="number" if numbers and i >= numbers else None) for i, cell in enumerate(r)))
        for r in rows
    ]
    heads = (
        tag("th", visible(h), scope="col", class_="number" if numbers and i >= numbers else None)
        for i, h in enumerate(head)
    )
    whole = tag(
        "table",
        tag("caption", caption) if caption else None,
        tag("thead", tag("tr", *heads)),
        tag("tbody", *cells),
    )
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption or ", ".join(head))


def headline(runs: Sequence[Run]) -> str:
    """What kind of runs these are, in a line."""
    algorithms = dict.fromkeys(str(r.config["grpo"]["algorithm"]) for r in runs if _has_algorithm(r))
    seeds = sorted({run.seed for run in runs})
    parts = [
        f"algorithm {', '.join(algorithms)}" if algorithms else "",
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}",
        f"{len(runs)} runs" if len(runs) > 1 else f"{percent(_progress(runs[0]))} of its stages done",
    ]
    return " · ".join(visible(part) for part in parts if part)


def _has_algorithm(run: Run) -> bool:
    section = run.config.get("grpo")
    return isinstance(section, Mapping) and "algorithm" in section


def _progress(run: Run) -> float:
    return fmean([float(stage.finished) for stage in run.stages]) if run.stages else 0.0

"""What a run would do and cost, before it starts: ``r1rl run CONFIG --dry-run``."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import numpy as np

from r1rl.config import DatasetConfig, RunConfig
from r1rl.config.kinds import Counts
from r1rl.config.references import references_in
from r1rl.data.sources import count_rows
from r1rl.recipe.compute import Work, parameters_of
from r1rl.recipe.graph import Node, graph
from r1rl.recipe.verdict import StageState, StageVerdict, forecast
from r1rl.stages.cost import LENGTH_SHARE
from r1rl.tracking.console import Console, duration

TRAINING_SHARE, GENERATION_SHARE = 0.35, 0.1
"""Shares of the machine's peak that training and batched generation reach; 0.2 to 0.5 and 0.05 to 0.2 are usual."""
BYTES_PER_PARAMETER = 16
"""Float32 weights, gradients and Adam's two moments."""
BYTES_PER_FROZEN_PARAMETER = 4
"""Float32 weights alone; adapters add about a percent."""

_ACTIVE = {"deepseek-v3": (671e9, 37e9), "deepseek-r1-zero": (671e9, 37e9), "deepseek-r1": (671e9, 37e9)}
"""Mixture-of-experts models by their lower-case name: all parameters, and those that a token goes through."""
_ROWS = {
    ("openai/gsm8k", "train"): 7473,
    ("openai/gsm8k", "test"): 1319,
    ("nlile/hendrycks-MATH-benchmark", "train"): 12000,
    ("HuggingFaceH4/MATH-500", "test"): 500,
    ("HuggingFaceH4/aime_2024", "train"): 30,
    ("Intel/orca_dpo_pairs", "train"): 12859,
    ("openai/openai_humaneval", "test"): 164,
}
"""Sizes of the data sets that the configurations of this project name, so that a plan needs no network."""
_SIZE_IN_NAME = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)([bm])(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Machine:
    """The hardware of a run."""

    flops: float
    """Peak operations per second of all devices together."""
    source: str

    @classmethod
    def measure(cls) -> Machine:
        """This machine's processors, by a float32 matrix product of a quarter of a second."""
        a = np.ones((1024, 1024), dtype=np.float32)
        done, began = 0, time.perf_counter()
        while (passed := time.perf_counter() - began) < 0.25:
            a @ a
            done += 1
        flops = 2 * 1024**3 * done / passed
        return cls(flops, f"this machine's processors, {flops / 1e9:.0f} GFLOP/s measured")

    @classmethod
    def of(cls, devices: int, tflops: float) -> Machine:
        """Accelerators with this many TFLOP/s each."""
        return cls(devices * tflops * 1e12, f"{devices} devices of {tflops:g} TFLOP/s")

    def seconds(self, work: Work) -> float:
        """Time for the work at the usual shares of the peak."""
        trained = 6 * work.parameters * work.trained / TRAINING_SHARE
        return (trained + 2 * work.parameters * work.generated / GENERATION_SHARE) / self.flops


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimate for one stage. ``work`` is None where the size of its model or of its data is not known before it
    runs."""

    node: Node
    verdict: StageVerdict
    """Whether it would run, and why."""
    work: Work | None
    total_parameters: float | None
    rows: int | None
    """Rows that it is expected to hand on as data."""


def dry_run(config: RunConfig, devices: int = 0, tflops: float = 989.0) -> None:
    """Print what ``r1rl run`` would do, on ``devices`` accelerators or on this machine's processors."""
    machine = Machine.of(devices, tflops) if devices else Machine.measure()
    show(estimate(graph(config), Path(config.output_dir) / config.name), machine, Console())


def estimate(nodes: Mapping[str, Node], run: Path) -> dict[str, Estimate]:
    """Every stage in order; reads what the configuration names on this machine, without the network."""
    found: dict[str, Estimate] = {}
    verdicts = forecast(nodes, run)
    for name, node in nodes.items():
        size = _size(node, found)
        kind, counts = node.row, _counts(node, found)
        tokens = kind.planned(node.view, counts) if kind.planned else None
        work = None if size is None or tokens is None else Work(int(size[1]), *tokens)
        rows = kind.handed_on(node.view, counts) if kind.handed_on else None
        found[name] = Estimate(node, verdicts[name], work, None if size is None else size[0], rows)
    return found


def show(estimates: Mapping[str, Estimate], machine: Machine, console: Console) -> None:
    """Print the plan."""
    rows: list[list[str]] = []
    seconds = 0.0
    for name, each in estimates.items():
        needed = each.work is not None and each.verdict.state not in (StageState.DONE, StageState.SIFT)
        took = machine.seconds(each.work) if needed and each.work is not None else 0.0
        seconds += took
        rows.append([name, each.node.kind, ", ".join(each.node.inputs), each.verdict.state.value, *_cells(each, took)])
    heads = ["stage", "kind", "builds on", "state", "parameters", "trained", "generated", "FLOP", "memory", "time"]
    console.table("plan", heads, rows)
    explain({name: each.verdict for name, each in estimates.items()}, console)
    unknown = [name for name, each in estimates.items() if each.work is None]
    left_out = f"; without {', '.join(unknown)}, whose data or model is not known yet" if unknown else ""
    console.say(f"about {duration(seconds)} on {machine.source}{left_out}")
    console.say(
        f"tokens: texts at {LENGTH_SHARE:.0%} of their limits; time: {TRAINING_SHARE:.0%} of the peak in training, "
        f"{GENERATION_SHARE:.0%} in generation, nothing else; memory: {BYTES_PER_PARAMETER} bytes per trained "
        f"parameter, {BYTES_PER_FROZEN_PARAMETER} per frozen one, over all devices, before activations"
    )


def explain(verdicts: Mapping[str, StageVerdict], console: Console) -> None:
    """For every stage that a run would change, say what happens to its work, and why."""
    for name, verdict in verdicts.items():
        if verdict.why():
            console.say(f"{name}: {_BECOMES[verdict.state]}: {verdict.why()}")


_BECOMES = {
    StageState.DONE: "kept, as it already has more than is requested",
    StageState.TO_DO: "to do",
    StageState.RESUME: "resumes where it stopped",
    StageState.EXTEND: "resumes where it stopped",
    StageState.SIFT: "its samples are kept and filtered again",
    StageState.REDO: "redone from its start, its work set aside",
    StageState.WAIT: "redone if what it builds on comes out differently",
}


def _cells(each: Estimate, seconds: float) -> list[str]:
    if each.work is None:
        return ["?", "?", "?", "?", "?", "?"]
    trains = each.work.trained > 0
    per_parameter = BYTES_PER_FROZEN_PARAMETER if each.node.view.model.lora else BYTES_PER_PARAMETER
    memory = f"{(each.total_parameters or 0) * per_parameter / 1e9:.3g} GB" if trains else ""
    counts = [_short(each.work.parameters), _short(each.work.trained), _short(each.work.generated)]
    return [*counts, f"{each.work.flops:.2g}", memory, duration(seconds) if seconds else ""]


def _short(value: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}" if value else ""


# ----------------------------------------------------------------------------------------------------------- sizes


def _size(node: Node, found: Mapping[str, Estimate]) -> tuple[float, float] | None:
    """All parameters of a stage's model, and those active per token."""
    if node.row.parameters is not None:
        size = node.row.parameters(node.view)
        return size, size
    path = node.view.model.path
    if path in found:
        upstream = found[path]
        known = upstream.work is not None and upstream.total_parameters is not None
        if known and upstream.work is not None and upstream.total_parameters is not None:
            return upstream.total_parameters, float(upstream.work.parameters)
        return _size(upstream.node, found)
    if Path(path).is_dir():
        counted = parameters_of(Path(path))
        return (float(counted), float(counted)) if counted else None
    return size_by_name(path)


def size_by_name(name: str) -> tuple[float, float] | None:
    """``Qwen/Qwen2.5-0.5B`` has 0.5e9 parameters; None where the name does not say."""
    last = name.rpartition("/")[2].lower()
    for known, sizes in _ACTIVE.items():
        if last.removesuffix("-base") == known:
            return sizes
    match = _SIZE_IN_NAME.search(last.replace("-", " ").replace("_", " "))
    if match is None:
        return None
    size = float(match[1]) * {"b": 1e9, "m": 1e6}[match[2].lower()]
    return size, size


# ------------------------------------------------------------------------------------------------------------ rows


def _counts(node: Node, found: Mapping[str, Estimate]) -> Counts:
    """Rows of the sources that a stage goes through."""
    return {key: _all_rows(attrgetter(key)(node.view), found) for key in node.row.rows}


def _rows(source: DatasetConfig, found: Mapping[str, Estimate]) -> int | None:
    """Rows of a source as far as the configuration or a local file tells."""
    references = references_in(source.path)
    if references:
        there: int | None = found[references[0].stage].rows
    elif source.path.startswith("generated:"):
        size = source.args.get("size")
        there = int(size) if isinstance(size, int) else None
    else:
        there = _ROWS.get((source.path, source.split)) or count_rows(source)
    if there is None:
        return source.limit
    there = max(0, there - source.skip)
    return min(there, source.limit) if source.limit else there


def _all_rows(sources: Mapping[str, DatasetConfig], found: Mapping[str, Estimate]) -> int | None:
    counts = [_rows(source, found) for source in sources.values()]
    return None if None in counts else sum(count for count in counts if count is not None)

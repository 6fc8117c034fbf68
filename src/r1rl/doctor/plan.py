"""What a run would do on a number of GPUs: processes, engines, micro-batches and memory of each stage."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from r1rl.config import RunConfig
from r1rl.config.derived import derive
from r1rl.config.kinds import with_launch
from r1rl.doctor.memory import GIB, RUNTIME_BYTES, Part, Shape, estimate, served
from r1rl.errors import ConfigError
from r1rl.grpo.balance import partition
from r1rl.grpo.batch import pack
from r1rl.recipe.graph import Node, graph
from r1rl.recipe.layout import StageLayout, layout
from r1rl.rollout.build import AUTO
from r1rl.tracking.console import Console


@dataclass(frozen=True, slots=True)
class Hardware:
    """The GPUs of a run."""

    gpus: int
    memory: float
    """GiB of each."""
    per_machine: int = 8

    @property
    def machines(self) -> int:
        return math.ceil(self.gpus / self.per_machine)

    @property
    def on_each(self) -> int:
        """GPUs of each machine.

        Raises: ConfigError where the machines would have different numbers of them.
        """
        if self.gpus % self.machines:
            raise ConfigError(f"--gpus {self.gpus} are not a multiple of --gpus-per-machine {self.per_machine}")
        return self.gpus // self.machines


@dataclass(frozen=True, slots=True)
class Planned:
    """One stage on that hardware."""

    node: Node
    at: StageLayout | None
    """Where it runs; None where it cannot."""
    problem: str = ""
    """Why it cannot, or what does not fit."""
    parts: tuple[Part, ...] = ()
    """Memory of one rank; empty for kinds whose memory is not estimated."""
    micro_batches: int = 0
    """Of a rank per update, if every sequence is as long as allowed; 0 for kinds that do not pack."""
    engine: str = ""
    """What samples, and where."""

    @property
    def gib(self) -> float:
        """Memory of one rank at the peak."""
        return (sum(part.bytes for part in self.parts) + RUNTIME_BYTES["cuda"]) / GIB if self.parts else 0.0

    def processes(self) -> str:
        """How many, and what they share."""
        if self.at is None:
            return "?"
        each = f"{self.at.machines} × {self.at.processes}" if self.at.machines > 1 else str(self.at.processes)
        shares = f"ZeRO-{self.at.zero}" if self.at.zero else "DDP" if self.at.ranks > 1 else ""
        return f"{each} {'process' if self.at.ranks == 1 else 'processes'}" + (f", {shares}" if shares else "")


def with_engine(run: RunConfig) -> RunConfig:
    """The configuration as it is on GPUs with vLLM installed: ``rollout.engine: auto`` is vLLM."""
    run = run.model_copy(deep=True)
    if run.rollout.engine == AUTO:
        run.rollout.engine = "vllm"
    for stage in run.stages.values():
        if (stage.rollout or {}).get("engine") == AUTO:
            stage.rollout = {**(stage.rollout or {}), "engine": "vllm"}
    return run


def plan(run: RunConfig, shapes: Mapping[str, Shape], hardware: Hardware, launch: str | None) -> list[Planned]:
    """Every stage of a run, in order.

    Args:
        shapes: of the model of each grpo stage, by the stage's name.
        launch: the launch file of stages that name none; None for one process.
    """
    nodes = graph(run if launch is None else with_launch(run, launch))
    return [_planned(node, shapes.get(name), hardware) for name, node in nodes.items()]


def _planned(node: Node, shape: Shape | None, hardware: Hardware) -> Planned:
    try:
        at = layout(node, hardware.on_each, hardware.machines)
    except ConfigError as error:
        return Planned(node, None, str(error))
    engine = _engine(node.view, at) if "rollout" in node.row.uses else ""
    if shape is None:
        return Planned(node, at, engine=engine)
    size = hardware.memory * GIB
    parts = tuple(part for part in estimate(node.view, shape, at.ranks, at.zero, gpu_bytes=size) if part.bytes)
    found = Planned(node, at, "", parts, micro_batches(node.view, at.ranks), engine)
    return replace(found, problem=_problem(found, shape, hardware))


def _problem(found: Planned, shape: Shape, hardware: Hardware) -> str:
    view = found.node.view
    if found.gib > hardware.memory:
        worst = max(found.parts, key=attrgetter("bytes"))
        return f"does not fit: about {found.gib:.1f} of {hardware.memory:g} GiB; first: {worst.knob}"
    if view.rollout.engine == "vllm" and not view.rollout.vllm.urls:
        sequences = served(view, shape, hardware.memory * GIB).sequences
        if sequences < 1:
            return (
                f"does not fit: vLLM's share of {view.rollout.vllm.gpu_share:.0%} does not hold the model "
                "and one sequence at its limit; first: rollout.vllm.gpu_memory_utilization, "
                "rollout.vllm.tensor_parallel_size"
            )
    return ""


def micro_batches(view: RunConfig, ranks: int) -> int:
    """Micro-batches of the fullest rank per update, with every sequence at its limit."""
    sizes, teams = derive(view), ranks // view.grpo.sequence_parallel
    lengths = [sizes.max_sequence_tokens] * sizes.completions_per_update
    shares = partition(lengths, max(1, teams))
    return max(len(pack([lengths[i] for i in share], view.grpo.tokens_per_microbatch)) for share in shares)


def _engine(view: RunConfig, at: StageLayout) -> str:
    vllm = view.rollout.vllm
    if view.rollout.engine != "vllm":
        return view.rollout.engine
    width = f" of {vllm.tensor_parallel_size} GPUs" if vllm.tensor_parallel_size > 1 else ""
    if vllm.mode == "colocate":
        count = max(1, at.ranks // vllm.tensor_parallel_size)
        return f"{count} colocated vLLM engine{'s' if count > 1 else ''}{width}"
    if vllm.urls:
        return f"{len(vllm.urls)} vLLM servers elsewhere"
    places = ", ".join("+".join(map(str, at.devices(index))) for index in range(at.servers))
    return f"{at.servers} vLLM server{'s' if at.servers > 1 else ''} on GPU {places}"


def show(planned: Sequence[Planned], hardware: Hardware, console: Console) -> None:
    """Print the plan, one row per stage, and :func:`summary`."""
    rows = [
        [
            each.node.name,
            each.node.kind,
            each.processes(),
            each.engine,
            str(each.micro_batches or ""),
            f"{each.gib:.1f}" if each.parts else "",
        ]
        for each in planned
    ]
    heads = ["stage", "kind", "processes", "engine", "micro-batches", "GiB per GPU"]
    console.table(f"on {hardware.gpus} GPUs of {hardware.memory:g} GiB", heads, rows)
    for line in summary(planned, hardware):
        console.say(line)


def summary(planned: Sequence[Planned], hardware: Hardware) -> Iterator[str]:
    """In one line what the grpo stage does that needs the most memory, and one line for each different problem."""
    trained = [each for each in planned if each.parts]
    if trained:
        worst = max(trained, key=attrgetter("gib"))
        cannot = [each.node.name for each in planned if each.at is None]
        fits = "fits" if not any(each.problem for each in trained) else "does not fit"
        fits = f"{', '.join(cannot)} cannot run" if cannot else fits
        yield (
            f"{hardware.gpus} GPU{'s' if hardware.gpus > 1 else ''}: {fits}; {worst.processes()}; {worst.engine}; ≤ "
            f"{worst.micro_batches} micro-batches per update; {worst.gib:.1f} of {hardware.memory:g} GiB"
        )
    problems: dict[str, list[str]] = {}
    for each in planned:
        if each.problem:
            problems.setdefault(each.problem.removeprefix(f"stage {each.node.name}: "), []).append(each.node.name)
    for problem, stages in problems.items():
        yield f"stage {', '.join(stages)}: {problem}"

"""The stages of a configuration as a graph: what each builds on, and which of them a run is about."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from r1rl.config import DataConfig, DatasetConfig, RunConfig, stage_config, stages_of
from r1rl.config.kinds import Kind, kind_of
from r1rl.config.paths import launch_file, launch_names
from r1rl.config.references import pick, references_in, replaced, strings
from r1rl.errors import ConfigError

Outputs = Mapping[str, Mapping[str, Path]]
"""The outputs of each finished stage, by stage and output name."""

_HANDS_ON = "model"


@dataclass(frozen=True, slots=True)
class Node:
    """One stage with its place in the graph."""

    name: str
    kind: str
    view: RunConfig
    """The run as this stage sees it, references still in place."""
    inputs: tuple[str, ...]
    """Stages that it builds on, in the order of the plan."""
    launch: str | None = None

    @property
    def row(self) -> Kind:
        """The row of its kind."""
        return kind_of(self.kind)

    @property
    def parts(self) -> dict[str, Any]:
        """The parts of the configuration that it depends on, by their dotted paths, as plain values."""
        dumped = self.view.model_dump(mode="json")
        return {part: pick(dumped, part) for part in self.row.parts}


@dataclass(frozen=True, slots=True)
class Selection:
    """Which stages of the plan a run is about; nothing given means all of them."""

    until: str | None = None
    """The last one to run."""
    start: str | None = None
    """Run it and whatever builds on it again, done or not; what it builds on must be done."""
    only: str | None = None
    """Run it alone; what it builds on must be done."""

    def check(self, nodes: dict[str, Node]) -> None:
        """Raises ConfigError for a stage that the plan does not have and for a missing launch configuration."""
        for name in (self.until, self.start, self.only):
            if name is not None and name not in nodes:
                raise ConfigError(f"no stage is called {name}; the run has {', '.join(nodes)}")
        for node in nodes.values():
            if node.launch is not None and launch_file(node.launch) is None:
                raise ConfigError(
                    f"stage {node.name}: there is no launch file {node.launch} (looked from the configuration's folder "
                    f"and from {Path.cwd()}); r1rl comes with {', '.join(launch_names())}"
                )

    def again(self, nodes: dict[str, Node]) -> set[str]:
        """Stages that run even if they are done."""
        return dependents(nodes, self.start) if self.start else set()

    def wanted(self, nodes: dict[str, Node]) -> list[str]:
        """Stages that may run, in order."""
        if self.only:
            return [self.only]
        names = list(nodes)
        first = names.index(self.start) if self.start else 0
        last = names.index(self.until) if self.until else len(names) - 1
        return names[first : last + 1]


def graph(config: RunConfig) -> dict[str, Node]:
    """Every stage in the order of the plan. Pure: it runs nothing and needs no output of any stage."""
    nodes: dict[str, Node] = {}
    views = {name: stage_config(config, name) for name in stages_of(config)}
    for name, stage in stages_of(config).items():
        view, earlier = views[name], list(nodes)
        where = kind_of(stage.kind).evaluations
        if where == "eval":
            view.data.eval = _every_evaluation(views, earlier)
        elif where == "held_out":
            view.data.held_out |= _elsewhere(view.data, _every_evaluation(views, earlier))
        alone = Node(name, stage.kind, view, (), stage.launch)
        nodes[name] = replace(alone, inputs=_inputs(alone, earlier))
    return nodes


def resolved(node: Node, outputs: Outputs) -> RunConfig:
    """The run as the stage runs it: every reference is the path of what the earlier stage made."""
    dumped = node.view.model_dump()
    for section in node.row.parts:
        *above, last = section.split(".")
        around = pick(dumped, ".".join(above)) if above else dumped
        around[last] = replaced(around[last], partial(_filled, outputs))
    if "model" in node.row.uses and node.view.model.path in node.inputs:
        dumped["model"]["path"] = str(outputs[node.view.model.path][_HANDS_ON])
    return RunConfig.model_validate(dumped)


def borrowed(node: Node, names: Collection[str]) -> set[str]:
    """Dotted keys of a stage's configuration that stand for what these stages make."""
    found = {
        ".".join(path)
        for path, text in strings(node.parts)
        for reference in references_in(text)
        if reference.stage in names
    }
    return found | ({"model.path"} if node.view.model.path in names else set())


def dependents(nodes: Mapping[str, Node], name: str) -> set[str]:
    """The stage and every stage that builds on it, directly or not."""
    found = {name}
    for node in nodes.values():  # in the order of the plan, so one pass is enough
        if found.intersection(node.inputs):
            found.add(node.name)
    return found


def _inputs(node: Node, earlier: list[str]) -> tuple[str, ...]:
    named = {reference.stage for _, text in strings(node.parts) for reference in references_in(text)}
    if "model" in node.row.uses:
        named.add(node.view.model.path)
    return tuple(name for name in earlier if name in named)


def _every_evaluation(views: Mapping[str, RunConfig], earlier: Collection[str]) -> dict[str, DatasetConfig]:
    """The evaluation sets of all stages, each once: what must be kept out of the data that is trained on.

    Those made by a stage that is not in ``earlier`` do not exist yet and are left out.
    """
    found: dict[str, DatasetConfig] = {}
    seen: list[dict[str, Any]] = []
    for stage, view in views.items():
        for name, source in view.data.eval.items():
            rows = _questions(source)
            made = {reference.stage for _, text in strings(rows) for reference in references_in(text)}
            if rows not in seen and made.issubset(earlier):
                seen.append(rows)
                found[name if name not in found else f"{stage}.{name}"] = source.model_copy(update={"rewards": None})
    return found


def _elsewhere(own: DataConfig, everywhere: Mapping[str, DatasetConfig]) -> dict[str, DatasetConfig]:
    """The evaluation sets that a stage does not have itself."""
    there = [_questions(source) for source in own.eval.values()]
    return {name: source for name, source in everywhere.items() if _questions(source) not in there}


def _questions(source: DatasetConfig) -> dict[str, Any]:
    """What decides which questions a source holds."""
    rows = {"path", "subset", "split", "revision", "args", "limit", "skip"}
    return source.model_dump(include=rows | {"question", "question_from"})


def _filled(outputs: Outputs, text: str) -> str:
    for reference in references_in(text):
        text = text.replace(reference.text, str(outputs[reference.stage][reference.output]))
    return text

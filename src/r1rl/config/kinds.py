"""What a kind of stage is, and how one is found by its name.

The kinds that come with r1rl are in :mod:`r1rl.stages.kinds`, one row each of :data:`r1rl.registry.KINDS`. Others are
named in a configuration as ``module:name``. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from r1rl.config.base import Section
from r1rl.config.schema import RunConfig, stages_of
from r1rl.errors import ConfigError
from r1rl.registry import KINDS

Conflict = tuple[tuple[str, ...], str]
"""The key to change and what is wrong with it."""
Check = Callable[[RunConfig], Iterator[Conflict]]
"""What is wrong with a stage, given the run as it sees it."""
Applies = dict[str, list[str] | None]
"""By source: the rewards that run on it; None means all."""
Tokens = tuple[float, float]
"""Trained and generated tokens."""
Counts = Mapping[str, int | None]
"""Rows of all the sources at a dotted path of the configuration, by that path; None where not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of stage: everything that the rest of r1rl needs to know about it."""

    entry: str
    """``module:function`` that runs a stage, from a StageContext to a StageResult; imported when a stage runs."""
    uses: tuple[str, ...]
    """Dotted parts of the configuration that it depends on, besides its own section. A change in one of them redoes the
    stage; data, rewards and models named there are inspected before the run starts."""
    section: str = "args"
    """The section of the run with the keys of this kind. Only kinds that come with r1rl have their own."""
    args: type[Section] | None = None
    """What ``args`` may hold in a stage of this kind; None for nothing."""
    outputs: frozenset[str] = frozenset()
    """Its outputs for later stages: ``model``, ``data``, or both."""

    policy: bool = False
    """Whether its model writes text, so that a later stage may start from it."""
    exports: bool = False
    """Whether it exports an earlier stage's model."""
    alone: bool = False
    """Whether the main process runs it while the others wait."""
    quick: bool = False
    """Whether it measures or copies a model, and so is done again without asking."""
    evaluations: Literal["", "eval", "held_out"] = ""
    """The part of ``data`` that gets every stage's evaluation sets, to keep their questions out of the data it
    makes."""

    checks: tuple[Check, ...] = ()
    """What ``r1rl check`` looks for in the configuration of a stage."""
    applies: Callable[[RunConfig], Applies] | None = None
    """Which rewards run on which source, for kinds that score completions."""
    gold: bool = True
    """Whether the gold answers of its sources are read."""
    columns: tuple[str, ...] = ()
    """Dotted keys whose values are columns that its training sources must have."""
    mixes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Dotted keys of further training sources, each with the keys whose values are columns that they must have."""

    rows: tuple[str, ...] = ()
    """Dotted keys of the sources that it reads, counted for the plan."""
    planned: Callable[[RunConfig, Counts], Tokens | None] | None = None
    """Tokens that a stage will process; None where that cannot be known before it runs."""
    parameters: Callable[[RunConfig], float] | None = None
    """Size of the model that it builds, for kinds that start from none."""
    handed_on: Callable[[RunConfig, Counts], int | None] | None = None
    """Rows that a stage will hand on as data."""
    measured: Callable[[Path, Mapping[str, Any]], Tokens] | None = None
    """Tokens that a finished stage processed, by its folder and its metrics."""
    steps: Callable[[Mapping[str, Any]], float | None] | None = None
    """Lines that metrics.jsonl will have in the end, by the keys of this kind, which are not validated."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Dotted parts of the configuration that it depends on."""
        return (*self.uses, self.section)

    def read_args(self, args: Mapping[str, Any]) -> Section:
        """The ``args`` of a stage as this kind's model. Raises pydantic.ValidationError."""
        return (self.args or _NoArgs).model_validate(args)


class _NoArgs(Section):
    """For a kind without arguments."""


def kind_of(name: str) -> Kind:
    """The kind with this name, or the one that ``module:name`` stands for.

    Raises:
        ConfigError: there is none, or it cannot be imported.
    """
    found = KINDS.load(name)
    if not isinstance(found, Kind):
        raise ConfigError(f"{name} is not a r1rl.config.kinds.Kind but a {type(found).__name__}")
    return found


def with_launch(run: RunConfig, launch: str) -> RunConfig:
    """The run with this launch file for every stage that runs on several processes and says nothing of its own;
    ``launch: null`` in a stage says one process."""
    stages = {
        name: stage.model_copy(update={"launch": launch})
        if "launch" not in stage.model_fields_set and not kind_of(stage.kind).alone
        else stage
        for name, stage in stages_of(run).items()
    }
    changed = run.model_copy(deep=True)
    changed.stages = stages
    return changed


def final_stage(run: RunConfig) -> str | None:
    """The stage whose model is the run's: the last that trains or exports a policy, or else a reward model's."""
    kinds = {name: kind_of(stage.kind) for name, stage in stages_of(run).items()}
    policies = [name for name, kind in kinds.items() if kind.policy or kind.exports]
    models = [name for name, kind in kinds.items() if "model" in kind.outputs]
    return next(reversed(policies or models), None)

"""What every stage is given and what it hands on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from r1rl.config import RunConfig
from r1rl.config.kinds import kind_of
from r1rl.distributed.collectives import gather
from r1rl.distributed.interrupt import Interrupt
from r1rl.tracking.console import Console


@dataclass(slots=True)
class StageContext:
    """Everything a stage may use.

    ``config`` is the run as this stage sees it: its own overrides applied, and ``model.path`` already the folder of
    the stage it names. ``folder`` is RUN/STAGE and exists.
    """

    name: str
    config: RunConfig
    folder: Path
    accelerator: Accelerator
    console: Console
    interrupt: Interrupt = field(default_factory=Interrupt)
    """Set when the run is asked to end: a stage saves what it has at the next safe place and raises Interrupted."""

    @property
    def args(self) -> Any:
        """The keys of a kind of the user's own, as the model that the kind names."""
        return kind_of(self.config.stages[self.name].kind).read_args(self.config.args)


@dataclass(slots=True)
class StageResult:
    """What a stage made: a model folder or a data file to hand on, reports, and the figures for results.json."""

    model: Path | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    data: Path | None = None
    reports: dict[str, Path] = field(default_factory=dict)
    """Files that must exist for the stage to count as done, by name."""

    spent: Path | None = None
    """File or folder from which an interrupted stage resumes; it is removed once this one is recorded as done."""

    @property
    def outputs(self) -> dict[str, Path]:
        """Everything made, by the name that ``${STAGE.NAME}`` gives it."""
        handed = {"model": self.model, "data": self.data}
        return self.reports | {name: path for name, path in handed.items() if path is not None}


def asked_to_end(ctx: StageContext) -> bool:
    """Whether any process of the stage was asked to end; collective."""
    return ctx.interrupt.requested_anywhere(gather)


StageEntry = Callable[[StageContext], StageResult]

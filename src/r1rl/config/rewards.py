"""Which reward functions score a completion, and how they run."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from r1rl.config.base import Section


class RewardConfig(Section):
    """One reward function. ``accuracy: 1.0`` is short for ``accuracy: {weight: 1.0}``."""

    former_names: ClassVar = {"use": "function"}

    function: str | None = None
    """A registered name, ``path/to/file.py:function`` or ``package.module:function``; None takes the key itself."""
    weight: float = 1.0
    """Weight in the sum of rewards; 0 only logs it."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments bound to the function, for example ``{target: en}``."""

    where: Literal["process", "trainer"] | None = None
    """``process``: in a worker process, which may hang or crash without harming the run. ``trainer``: in a thread of
    the trainer, for what needs its memory or its GPU. None: r1rl's own rewards, ``torch.nn.Module``s and functions of
    the script that was started in the trainer, all others in a process."""
    processes: int | None = Field(None, ge=1)
    """Number of its own processes, which run it in parallel; None shares one with the other functions of its file."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.where == "trainer" and self.processes is not None:
            raise ValueError("processes cannot be set with where: trainer, which runs it in no process")
        return self

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {"weight": float(value)}
        return value


class ScoringConfig(Section):
    """The worker processes that check answers, and their limits."""

    workers: int = Field(2, ge=1)
    """Processes per training process."""
    cpu_seconds: float = Field(1.0, gt=0)
    """Processor time one check may use."""
    wall_seconds: float = Field(30.0, gt=0)
    """Wall-clock limit of one check: a bound on a worker that hangs. ``cpu_seconds`` bounds what is checked, so
    that a busy machine does not turn a correct answer into a time-out."""
    memory_mb: int = Field(1024, ge=64)
    """Address space that one worker may gain before it is killed."""
    function_timeout_s: float = Field(300.0, gt=0)
    """Time one call of a reward function on a group may take once it runs. After that it is killed in a process, and
    the group has no values of it; in the trainer, where it cannot be killed, the run stops with an error."""
    function_memory_mb: int = Field(8192, ge=64)
    """Memory that a reward function's process and its children may hold; they are killed when they exceed it."""
    concurrency: int = Field(16, ge=1)
    """Groups that one async reward function scores concurrently."""
    max_lost: int = Field(8, ge=1)
    """Calls of one function that may be lost in a row (timed out, crashed) before the run stops with an error."""

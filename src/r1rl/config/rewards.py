"""Which reward functions score a completion, and how they run."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from r1rl.config.base import Section


class RewardConfig(Section):
    """One reward function. ``accuracy: 1.0`` is short for ``accuracy: {weight: 1.0}``."""

    use: str | None = None
    """A registered name, ``path/to/file.py:function`` or ``package.module:function``; None takes the key itself."""
    weight: float = 1.0
    """Factor in the sum of rewards; 0 only logs it."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments bound to the function, for example ``{target: en}``."""

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
    """Time one check may take by the clock: a bound on a worker that hangs. ``cpu_seconds`` bounds what is checked, so
    that a busy machine does not turn a right answer into a time-out."""
    memory_mb: int = Field(1024, ge=64)
    """Address space growth one worker may reach before it is killed."""
    function_timeout_s: float = Field(300.0, gt=0)
    """Time one call of a reward function on a group may take before the run stops with an error."""

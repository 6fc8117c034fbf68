"""Where metrics go."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from r1rl.config.base import NameIn, Section
from r1rl.registry import TRACKERS


class TrackingConfig(Section):
    """metrics.jsonl and samples.jsonl are always written; the rest by name."""

    report_to: list[Annotated[str, NameIn(TRACKERS)]] = Field(default_factory=list)
    """Services that get the metrics as well. For your own, see docs/extending.md."""
    project: str = "r1rl"
    """Project that the run belongs to in those services."""
    run_name: str | None = None
    """None takes the run folder's name."""
    samples_per_step: int = Field(4, ge=0)
    """Completions written to samples.jsonl per step."""
    console: bool = True
    """The live view, or plain lines where output is not a terminal; false leaves only warnings, on standard error."""

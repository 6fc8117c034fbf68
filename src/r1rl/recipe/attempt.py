"""What ``--from STAGE`` has begun anew, so that the same command goes on after an interruption."""

from __future__ import annotations

import json
from pathlib import Path

from r1rl.files import clear, write_json

ATTEMPT = "redoing.json"
"""In the run folder, from the first stage that ``--from`` began anew until the run ended or was started otherwise."""


def begun(run: Path, start: str | None) -> set[str]:
    """Stages that an earlier, interrupted run with the same ``--from`` began anew; forgets those of any other run."""
    try:
        found = json.loads((run / ATTEMPT).read_text(encoding="utf-8"))
        stages = set(found["stages"]) if found["from"] == start else set()
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        stages = set()
    if not stages:
        end(run)
    return stages


def note(run: Path, start: str, stage: str) -> None:
    """Note that ``stage`` was begun anew: what it holds from now on is of this attempt."""
    write_json(run / ATTEMPT, {"from": start, "stages": sorted(begun(run, start) | {stage})})


def end(run: Path) -> None:
    """The next ``--from`` redoes everything."""
    clear(run / ATTEMPT)

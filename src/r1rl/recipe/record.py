"""A run's records: that the outputs of a finished stage are complete and its own; which stages ``--from`` has
restarted, so that the same command resumes after an interruption."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from r1rl.files import clear, write_json
from r1rl.fingerprint.content import content
from r1rl.fingerprint.identity import Identity
from r1rl.fingerprint.mark import RECORD

ATTEMPT = ".redoing.json"
"""In the run folder, from the first stage that ``--from`` restarted until the run ends or is started differently."""


@dataclass(slots=True)
class Done:
    """RUN/STAGE/stage.json."""

    identity: Identity
    """What it learned from."""
    kind: str
    outputs: dict[str, str] = field(default_factory=dict)
    """The outputs for later stages, by name; paths inside the run folder are relative to it."""
    metrics: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    """Time of the last run of the stage, resumed or not."""
    contents: dict[str, str] = field(default_factory=dict)
    """Hash of each output when it was made."""

    @classmethod
    def of(
        cls, run: Path, identity: Identity, outputs: dict[str, Path], metrics: dict[str, Any], seconds: float
    ) -> Done:
        """Hashes the outputs, which must exist."""
        places = {name: _relative(path, run) for name, path in outputs.items()}
        return cls(identity, identity.kind, places, metrics, seconds, {n: content(p) for n, p in outputs.items()})

    def paths(self, run: Path) -> dict[str, Path]:
        """Absolute paths of the outputs."""
        return {name: (run / place).absolute() for name, place in self.outputs.items()}

    def altered(self, run: Path) -> list[Path]:
        """Outputs that exist and have changed since the stage finished."""
        there = [(name, path) for name, path in self.paths(run).items() if path.exists()]
        return [path for name, path in there if content(path) != self.contents.get(name)]

    def missing(self, run: Path) -> list[Path]:
        """Outputs that are missing."""
        return [path for path in self.paths(run).values() if not path.exists()]


def read(folder: Path) -> Done | None:
    """The record of the stage in ``folder``; None where it did not finish or another version wrote it."""
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return Done(**(found | {"identity": Identity.read(found["identity"])}))
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return None


def write(folder: Path, done: Done) -> None:
    """Write the record, as the last act of a stage."""
    write_json(folder / RECORD, asdict(done))


def _relative(path: Path, run: Path) -> str:
    absolute, base = path.absolute(), run.absolute()
    return str(absolute.relative_to(base) if absolute.is_relative_to(base) else absolute)


def restarted(run: Path, start: str | None) -> set[str]:
    """Stages that an earlier, interrupted run with the same ``--from`` restarted; forgets those of any other run."""
    try:
        found = json.loads((run / ATTEMPT).read_text(encoding="utf-8"))
        stages = set(found["stages"]) if found["from"] == start else set()
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        stages = set()
    if not stages:
        end_attempt(run)
    return stages


def note_restarted(run: Path, start: str, stage: str) -> None:
    """Note that ``stage`` was restarted: its contents from now on belong to this attempt."""
    write_json(run / ATTEMPT, {"from": start, "stages": sorted(restarted(run, start) | {stage})})


def end_attempt(run: Path) -> None:
    """Forget what was restarted: the next ``--from`` redoes everything."""
    clear(run / ATTEMPT)

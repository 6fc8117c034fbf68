"""What a finished stage leaves beside its outputs, so that a later run can tell that they are whole and its own."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from r1rl.files import write_json
from r1rl.recipe.fingerprint import content

RECORD, MARK = "stage.json", "fingerprint"


@dataclass(slots=True)
class Done:
    """RUN/STAGE/stage.json."""

    fingerprint: str
    kind: str
    outputs: dict[str, str] = field(default_factory=dict)
    """What is handed on, by name; paths inside the run folder are relative to it."""
    metrics: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    """Time of the last run of the stage, resumed or not."""
    contents: dict[str, str] = field(default_factory=dict)
    """Hash of each output when it was made."""

    @classmethod
    def of(
        cls, run: Path, fingerprint: str, kind: str, outputs: dict[str, Path], metrics: dict[str, Any], seconds: float
    ) -> Done:
        """Hashes the outputs, which must exist."""
        places = {name: _relative(path, run) for name, path in outputs.items()}
        return cls(fingerprint, kind, places, metrics, seconds, {n: content(p) for n, p in outputs.items()})

    def paths(self, run: Path) -> dict[str, Path]:
        """Absolute paths of the outputs."""
        return {name: (run / place).absolute() for name, place in self.outputs.items()}

    def is_whole(self, run: Path) -> bool:
        """Whether every output still is what it was when the stage finished."""
        return all(path.exists() and content(path) == self.contents.get(n) for n, path in self.paths(run).items())


def read(folder: Path) -> Done | None:
    """The record of the stage in ``folder``; None where it did not finish or another version wrote it."""
    try:
        return Done(**json.loads((folder / RECORD).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def finished(run: Path, name: str, fingerprint: str) -> Done | None:
    """The record, if the stage finished with this fingerprint and its outputs are whole."""
    done = read(run / name)
    return done if done is not None and done.fingerprint == fingerprint and done.is_whole(run) else None


def write(folder: Path, done: Done) -> None:
    """The last act of a stage."""
    write_json(folder / RECORD, asdict(done))


def set_aside(folder: Path) -> Path:
    """Rename a stage's folder to the first free ``NAME.1``, ``NAME.2``, …; returns where it went."""
    number = 1
    while folder.with_name(f"{folder.name}.{number}").exists():
        number += 1
    aside = folder.with_name(f"{folder.name}.{number}")
    os.replace(folder, aside)
    return aside


def _relative(path: Path, run: Path) -> str:
    absolute, base = path.absolute(), run.absolute()
    return str(absolute.relative_to(base) if absolute.is_relative_to(base) else absolute)

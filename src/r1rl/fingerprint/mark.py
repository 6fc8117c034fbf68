"""What a stage's folder records about the work in it: its identity, and its progress."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from r1rl.errors import R1Error
from r1rl.files import claim, write_json
from r1rl.fingerprint.identity import Change, Identity
from r1rl.fingerprint.keys import Effect

MARK, RECORD = "fingerprint", "stage.json"
_CHECKPOINTS = ("checkpoints/step-*", "checkpoints/checkpoint-*", "samples-*.jsonl", "unfinished.pt")
_WORK = (*_CHECKPOINTS, "model", "data.jsonl", "evaluation.json", "difficulty.jsonl", RECORD)
"""Outputs of a stage that took work to produce."""
_SET_ASIDE = re.compile(r".+\.\d+")
"""Names given by :func:`set_aside`."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Content of the file STAGE/fingerprint."""

    identity: Identity
    fingerprint: str
    """Fingerprint of the identity that the work began with; stored in its checkpoints."""

    def changes(self, now: Identity) -> list[Change]:
        """What changed since the work in the folder was begun."""
        return now.changes(self.identity)


UNKNOWN = Change("", "no record of how it was made", Effect.LEARNED)


def read(folder: Path) -> Mark | None:
    """The mark of a stage's folder; None if there is none that this version can read."""
    try:
        found = json.loads((folder / MARK).read_text(encoding="utf-8"))
        return Mark(Identity.read(found["identity"]), found["fingerprint"])
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return None


def write(folder: Path, identity: Identity, fingerprint: str) -> None:
    """Record what the work in a folder is made with, and mark the folder as r1rl's.

    Raises: ForeignError, StorageError, as :func:`r1rl.files.claim`.
    """
    claim(folder)
    write_json(folder / MARK, {"fingerprint": fingerprint, "identity": asdict(identity)})


def has_work(folder: Path) -> bool:
    """Whether a stage's folder contains work that would be lost if the stage were redone."""
    return _any(folder, _WORK)


def has_checkpoints(folder: Path) -> bool:
    """Whether there is anything that the stage can resume from."""
    return _any(folder, _CHECKPOINTS)


def _any(folder: Path, patterns: tuple[str, ...]) -> bool:
    found = [path for pattern in patterns for path in folder.glob(pattern) if not _SET_ASIDE.fullmatch(path.name)]
    return any(path.is_dir() or path.stat().st_size for path in found)


def progress(folder: Path) -> str:
    """Progress of the work in a stage's folder, in words; empty if unknown."""
    if (folder / RECORD).is_file():
        return "finished"
    steps = [file.name.rpartition("-")[2] for pattern in _CHECKPOINTS[:2] for file in folder.glob(pattern)]
    last = max((int(step) for step in steps if step.isdigit()), default=0)
    return f"saved at step {last}" if last else ""


def set_aside(folder: Path) -> Path:
    """Rename a stage's folder to the first free ``NAME.1``, ``NAME.2``, …; returns the new path."""
    number = 1
    while folder.with_name(f"{folder.name}.{number}").exists():
        number += 1
    aside = folder.with_name(f"{folder.name}.{number}")
    os.replace(folder, aside)
    return aside


def redone(changes: list[Change]) -> list[Change]:
    """The changes that require a stage to be redone from the beginning."""
    return [change for change in changes if change.effect is Effect.LEARNED]


def take(folder: Path, identity: Identity, overwrite: bool = False, fingerprint: str = "") -> tuple[str, Path | None]:
    """Claim a folder for work of this identity.

    Args:
        overwrite: rename a folder that holds other work, instead of refusing it.
        fingerprint: supplied by the caller; if given, only it is compared.

    Returns:
        The fingerprint to store in checkpoints, and the path that other work was moved to, if any.

    Raises:
        R1Error: the folder contains work made with other settings, and ``overwrite`` is off.
        ForeignError: it contains files that r1rl did not write.
    """
    if not (folder / MARK).exists():
        claim(folder)
    mark, aside = read(folder), None
    changes = _against(mark, identity, fingerprint)
    if changes and has_work(folder):
        if not overwrite:
            raise R1Error(
                f"{folder} contains work made with other settings ({listed(changes)}); choose another folder, undo "
                "the change, or pass overwrite=True, which renames the folder and starts from the beginning"
            )
        aside = set_aside(folder)
    began = mark.fingerprint if mark and not changes else fingerprint or identity.fingerprint
    write(folder, identity, began)
    return began, aside


def _against(mark: Mark | None, identity: Identity, fingerprint: str) -> list[Change]:
    if mark is None:
        return [UNKNOWN]
    if fingerprint:
        same = fingerprint == mark.fingerprint
        return (
            [] if same else [Change("fingerprint", f"fingerprint {mark.fingerprint} → {fingerprint}", Effect.LEARNED)]
        )
    return redone(mark.changes(identity))


def listed(changes: list[Change], most: int = 5) -> str:
    """The changes in one line, at most ``most`` of them by name."""
    rest = f" and {len(changes) - most} more" if len(changes) > most else ""
    return "; ".join(map(str, changes[:most])) + rest

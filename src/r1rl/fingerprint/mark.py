"""What a stage's folder notes of the work in it: its identity, and how far it got."""

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
"""What a stage leaves that took work to make."""
_SET_ASIDE = re.compile(r".+\.\d+")
"""Names that :func:`set_aside` gives."""


@dataclass(frozen=True, slots=True)
class Mark:
    """STAGE/fingerprint."""

    identity: Identity
    fingerprint: str
    """Of the identity that the work began with; checkpoints carry it."""

    def changes(self, now: Identity) -> list[Change]:
        """What differs now from what the work in the folder was made with."""
        return now.changes(self.identity)


UNKNOWN = Change("", "nothing is noted about how it was made", Effect.LEARNED)


def read(folder: Path) -> Mark | None:
    """The mark of a stage's folder; None where there is none that this version can read."""
    try:
        found = json.loads((folder / MARK).read_text(encoding="utf-8"))
        return Mark(Identity.read(found["identity"]), found["fingerprint"])
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return None


def write(folder: Path, identity: Identity, fingerprint: str) -> None:
    """Note what the work in a folder is made with; the folder becomes r1rl's.

    Raises: ForeignError, StorageError, as :func:`r1rl.files.claim`.
    """
    claim(folder)
    write_json(folder / MARK, {"fingerprint": fingerprint, "identity": asdict(identity)})


def has_work(folder: Path) -> bool:
    """Whether anything lies in a stage's folder that would have to be made again."""
    return _any(folder, _WORK)


def has_checkpoints(folder: Path) -> bool:
    """Whether a stage could go on from somewhere."""
    return _any(folder, _CHECKPOINTS)


def _any(folder: Path, patterns: tuple[str, ...]) -> bool:
    found = [path for pattern in patterns for path in folder.glob(pattern) if not _SET_ASIDE.fullmatch(path.name)]
    return any(path.is_dir() or path.stat().st_size for path in found)


def progress(folder: Path) -> str:
    """How far the work in a stage's folder got, in words; empty where nothing is known."""
    if (folder / RECORD).is_file():
        return "finished"
    steps = [file.name.rpartition("-")[2] for pattern in _CHECKPOINTS[:2] for file in folder.glob(pattern)]
    last = max((int(step) for step in steps if step.isdigit()), default=0)
    return f"saved at step {last}" if last else ""


def set_aside(folder: Path) -> Path:
    """Rename a stage's folder to the first free ``NAME.1``, ``NAME.2``, …; returns where it went."""
    number = 1
    while folder.with_name(f"{folder.name}.{number}").exists():
        number += 1
    aside = folder.with_name(f"{folder.name}.{number}")
    os.replace(folder, aside)
    return aside


def redone(changes: list[Change]) -> list[Change]:
    """The changes for which a stage is redone from its start."""
    return [change for change in changes if change.effect is Effect.LEARNED]


def take(folder: Path, identity: Identity, overwrite: bool = False, fingerprint: str = "") -> tuple[str, Path | None]:
    """Take a folder for work of this identity.

    Args:
        overwrite: rename a folder that holds other work, instead of refusing it.
        fingerprint: given by the caller; it alone is compared then.

    Returns:
        The fingerprint that checkpoints carry, and where other work was moved, if any was.

    Raises:
        R1Error: the folder holds work that was made otherwise, and ``overwrite`` is off.
        ForeignError: it holds what r1rl did not write.
    """
    if not (folder / MARK).exists():
        claim(folder)
    mark, aside = read(folder), None
    changes = _against(mark, identity, fingerprint)
    if changes and has_work(folder):
        if not overwrite:
            raise R1Error(
                f"{folder} holds work that was made otherwise ({listed(changes)}); choose another folder, undo the "
                "change, or pass overwrite=True, which renames the folder and begins anew"
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
    """Changes in one line."""
    rest = f" and {len(changes) - most} more" if len(changes) > most else ""
    return "; ".join(map(str, changes[:most])) + rest

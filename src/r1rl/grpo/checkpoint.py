"""Checkpoints: written atomically and flushed, with a manifest, so that an intact one is always there."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from r1rl.distributed.shards import write_tensors
from r1rl.errors import StorageError
from r1rl.files import MANIFEST as OWN
from r1rl.files import discard, file_digest, is_own, mark, write_bytes, write_json
from r1rl.fingerprint.mark import set_aside

log = logging.getLogger(__name__)

STATE, MANIFEST, BEST = "state.json", "manifest.json", "best.json"
_NAME = re.compile(r"step-\d{6,}")
FORMAT = 1
"""Of the files in a checkpoint; incremented when an older program could not read them."""


@dataclass(frozen=True, slots=True)
class RunState:
    """The state of a run after a step. The random streams of sampling and batching follow from the seed and these
    numbers; those that torch keeps (dropout) are in the checkpoint's rng.pt."""

    step: int
    version: int
    """Policy version that the engine samples from."""
    fingerprint: str
    """Of the configuration that trained it; a run with another one does not resume from it."""
    learner: dict[str, int] = field(default_factory=dict)
    """The learner's counters."""
    ranks: int = 1
    """Processes that wrote it. Any other number may resume from it."""
    format: int = FORMAT


class Checkpoints:
    """The numbered checkpoints of one stage: the last ``keep`` and the best.

    Checkpoints of another fingerprint in the same folder are neither counted nor removed.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def save(
        self,
        state: RunState,
        tensors: Iterable[tuple[str, Tensor]],
        others: Mapping[str, Any] | None = None,
        write: bool = True,
        score: float | None = None,
    ) -> Path:
        """Write to a draft, checksum it, flush it to disk, rename it, and drop the oldest.

        Args:
            tensors: ``FOLDER/NAME`` and tensor; walked through on every rank, whatever happens, as they may be
                collective.
            others: what ``torch.save`` takes, by file name.
            write: whether this rank writes.
            score: of the policy on held-out problems; the checkpoint with the highest one is kept as the best.

        Raises:
            StorageError: the folder cannot be written, or the disk is full; earlier checkpoints are unchanged.
        """
        final = self.folder / f"step-{state.step:06d}"
        draft = self.folder / f".writing-{state.step:06d}"
        try:
            if write:
                with _walking(tensors):
                    self._begin(draft, final)
            write_tensors(draft, tensors, write)
            if write:
                self._write_others(draft, state, others or {})
                _seal(draft)
                self._publish(draft, final, state.fingerprint)
                self._drop(final, score, state)
        except OSError as error:
            with contextlib.suppress(OSError):
                discard(draft)
            raise StorageError(self._explain(state, error)) from error
        return final

    def newest(self, fingerprint: str) -> tuple[RunState, Path] | None:
        """The newest intact checkpoint of this configuration, or None; damaged ones are reported and skipped."""
        for rest in (f for pattern in (".writing-*", ".dropping-*") for f in self.folder.glob(pattern)):
            if is_own(rest):
                discard(rest)
        for folder in reversed(self._all()):
            fault = damage(folder)
            if fault is not None:
                log.warning(f"{folder} is damaged ({fault}) and is skipped; looking for an earlier checkpoint")
                continue
            state = _read_state(folder)
            if state.format > FORMAT:
                raise StorageError(f"{folder} was written by a newer r1rl (format {state.format}): update r1rl")
            if state.fingerprint == fingerprint:
                return state, folder
        return None

    def best(self, fingerprint: str) -> Path | None:
        """The checkpoint of this configuration with the highest score so far."""
        name = self._read_best(fingerprint).get("name")
        return self.folder / name if name and (self.folder / name).is_dir() else None

    def _all(self) -> list[Path]:
        """Folders with the name of a checkpoint, in order of steps."""
        named = (f for f in self.folder.glob("step-*") if f.is_dir() and _NAME.fullmatch(f.name))
        return sorted(named, key=_step)

    def _begin(self, draft: Path, final: Path) -> None:
        """An empty draft, marked as ours; leftovers of a killed process are removed.

        Raises: StorageError where the checkpoint's place is taken.
        """
        others = _others(final) if final.exists() else []
        if others:
            raise StorageError(f"{final / others[0]} was not written by r1rl; move it away, then run the same command")
        discard(draft)
        draft.mkdir(parents=True)
        mark(draft)

    def _own(self, fingerprint: str) -> list[Path]:
        return [folder for folder in self._all() if _fingerprint_of(folder) == fingerprint]

    def _write_others(self, draft: Path, state: RunState, others: Mapping[str, Any]) -> None:
        draft.mkdir(parents=True, exist_ok=True)
        for name, value in others.items():
            # Through memory: torch's own writer reports a full disk as a RuntimeError without its cause.
            content = io.BytesIO()
            torch.save(value, content)
            write_bytes(draft / name, content.getbuffer())
        write_json(draft / STATE, asdict(state))

    def _publish(self, draft: Path, final: Path, fingerprint: str) -> None:
        if final.exists() and _fingerprint_of(final) != fingerprint:
            log.warning(f"{final} belongs to another configuration, or cannot be read; kept as {set_aside(final)}")
        if final.exists():
            aside = self._aside(final)
            os.replace(draft, final)
            discard(aside)
        else:
            os.replace(draft, final)
        _flush(self.folder)

    def _drop(self, saved: Path, score: float | None, state: RunState) -> None:
        fingerprint = state.fingerprint
        best = self._read_best(fingerprint)
        if score is None and best.get("name") == saved.name and state.learner.get("done"):
            best = {"fingerprint": fingerprint}  # updated since it was scored, and replaced
            write_json(self.folder / BEST, best)
        if score is not None and score >= best.get("score", -float("inf")):
            if not best and (self.folder / BEST).exists():
                set_aside(self.folder / BEST)  # another configuration's
            best = {"name": saved.name, "score": score, "fingerprint": fingerprint}
            write_json(self.folder / BEST, best)
        for old in self._own(fingerprint)[: -self.keep]:
            if old.name != best.get("name") and not _others(old):
                discard(self._aside(old))

    def _aside(self, checkpoint: Path) -> Path:
        """Renamed before it is deleted, so that a half-deleted one never looks like a damaged checkpoint."""
        aside = self.folder / f".dropping-{checkpoint.name}"
        discard(aside)
        mark(checkpoint)
        os.replace(checkpoint, aside)
        return aside

    def _read_best(self, fingerprint: str) -> dict[str, Any]:
        try:
            best: dict[str, Any] = json.loads((self.folder / BEST).read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return best if best.get("fingerprint") == fingerprint else {}

    def _explain(self, state: RunState, error: OSError) -> str:
        kept = self._own(state.fingerprint)
        safe = f"the last intact one is {kept[-1]}" if kept else "there is no earlier one"
        return (
            f"cannot write the checkpoint of step {state.step} to {self.folder}: {error}; {safe}. Free space or allow "
            "writing there, then run the same command: it resumes from that checkpoint"
        )


@contextlib.contextmanager
def _walking(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[None]:
    """Walks through the tensors where the block fails: the other ranks gather each of them with this one."""
    try:
        yield
    except (OSError, StorageError):
        for _ in tensors:
            pass
        raise


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint; None if every file is intact."""
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
    except FileNotFoundError:
        return f"no {MANIFEST}"
    except (ValueError, KeyError, TypeError):
        return f"{MANIFEST} cannot be read"
    for name, (size, digest) in files.items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes, not {size}"
        if file_digest(file) != digest:
            return f"{name} differs from its checksum"
    return None


def _others(folder: Path) -> list[str]:
    """Files in a checkpoint's folder that are not part of an r1rl checkpoint; such a folder is not removed."""
    try:
        listed = json.loads((folder / MANIFEST).read_text())["files"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        if is_own(folder):
            return []  # damaged, but ours
        listed = {}
    names = [str(file.relative_to(folder)) for file in _files(folder)]
    return [name for name in names if name not in {*listed, MANIFEST, OWN}]


def _seal(folder: Path) -> None:
    """Write the manifest, then flush files before the folders that name them."""
    files = {str(f.relative_to(folder)): (f.stat().st_size, file_digest(f)) for f in _files(folder)}
    write_json(folder / MANIFEST, {"files": files})
    for file in _files(folder):
        _flush(file)
    for inner in (f for f in folder.rglob("*") if f.is_dir()):
        _flush(inner)
    _flush(folder)


def _files(folder: Path) -> Iterator[Path]:
    return (f for f in sorted(folder.rglob("*")) if f.is_file())


def _read_state(folder: Path) -> RunState:
    return RunState(**json.loads((folder / STATE).read_text()))


def _fingerprint_of(folder: Path) -> str | None:
    """Of the configuration that wrote a checkpoint; None where it cannot be read."""
    try:
        found = json.loads((folder / STATE).read_text())
    except (OSError, ValueError):
        return None
    return found.get("fingerprint") if isinstance(found, dict) else None


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""The tracker protocol: where the loop sends its metrics and samples, whichever service receives them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from r1rl.tracking.jsonl import JsonLines, plain

if TYPE_CHECKING:
    from r1rl.records import Rows  # which needs numpy

log = logging.getLogger(__name__)

FAILURES = "system/tracker_failures"


def cells(rows: Rows) -> tuple[list[str], list[list[Any]]]:
    """The rows as a table: column names, and cells that are numbers, text or None (messages and lists as text)."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return columns, [[_cell(row.get(name)) for name in columns] for row in rows]


def _cell(value: Any) -> float | str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, Sequence) and all(isinstance(part, Mapping) and "content" in part for part in value):
        return "\n".join(f"[{message.get('role')}] {message['content']}" for message in value)
    return json.dumps(plain({"": value})[""], ensure_ascii=False)


class Tracker(Protocol):
    """Receives metrics and samples, step by step; steps never go back."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics of one step, by grouped name (``reward/mean``); a second call for the same step adds to it."""

    def samples(self, step: int, rows: Rows) -> None:
        """Some completions of one step: mappings of texts and numbers, all with the same keys."""

    def close(self) -> None:
        """Flushes and ends the run; no call may follow."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a tracker needs to start or resume a run."""

    project: str
    run_name: str
    stage_dir: Path
    config: Mapping[str, Any]
    """Nested plain values, shown beside the run."""
    run_id: str
    """The same in every process that resumes this run."""
    resume_step: int | None
    """Last step to keep; None starts a new run."""

    @property
    def resumed(self) -> bool:
        return self.resume_step is not None


class NullTracker:
    """Discards everything: for ranks that do not report."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        pass

    def samples(self, step: int, rows: Rows) -> None:
        pass

    def close(self) -> None:
        pass


class FileTracker:
    """``metrics.jsonl`` and ``samples.jsonl`` in the stage's folder; always there, and what reports are made from."""

    def __init__(self, stage_dir: Path, resume_step: int | None) -> None:
        self._metrics = JsonLines(stage_dir / "metrics.jsonl", resume_step)
        self._samples = JsonLines(stage_dir / "samples.jsonl", resume_step)
        self.last_step = -1 if resume_step is None else self._metrics.last_step_found
        """Last step that the attempt which is resumed had logged; −1 where nothing is, as the services start anew."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._metrics.merge(step, metrics)

    def samples(self, step: int, rows: Rows) -> None:
        for row in rows:
            self._samples.append(step, row)

    def close(self) -> None:
        self._metrics.close()
        self._samples.close()


class CompositeTracker:
    """The files first, then every other tracker.

    A service that fails does not end a run of days: the failure is warned of once and counted in
    ``system/tracker_failures``. After a resume, steps that the services saw before the interruption are written to
    the files alone, so that every step appears once everywhere.
    """

    def __init__(self, files: FileTracker, others: Iterable[Tracker]) -> None:
        self._files = files
        self._others = list(others)
        self._failures = 0
        self._warned: set[str] = set()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if step > self._files.last_step:
            for other in self._others:
                self._guarded(other, "log", step, metrics)
        self._files.log(step, {**metrics, FAILURES: self._failures} if self._failures else metrics)

    def samples(self, step: int, rows: Rows) -> None:
        if rows and step > self._files.last_step:
            for other in self._others:
                self._guarded(other, "samples", step, rows)
        self._files.samples(step, rows)

    def close(self) -> None:
        for other in self._others:
            self._guarded(other, "close")
        self._files.close()

    def _guarded(self, other: Tracker, method: str, *args: Any) -> None:
        try:
            getattr(other, method)(*args)
        except Exception as error:
            self._failures += 1
            name = type(other).__name__
            if name not in self._warned:
                self._warned.add(name)
                log.warning("%s could not %s: %r; the run continues", name, method, error)

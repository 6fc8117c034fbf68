"""Append-only files of one JSON object per line, each with its ``step``, that stay readable when truncated anywhere."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from r1rl.files import replacing

NON_FINITE = "/non_finite"


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file, in order; lines that are not complete objects are skipped."""
    with path.open("rb") as file:
        for line in file:
            record = parse(line)
            if record is not None:
                yield record


def figures(path: Path, last: int) -> list[dict[str, float]]:
    """The numbers of each record up to step ``last``, in order; none where there is no file."""
    if not path.is_file():
        return []
    records = (record for record in read_jsonl(path) if record["step"] <= last)
    return [
        {name: float(v) for name, v in record.items() if name != "step" and isinstance(v, int | float)}
        for record in records
    ]


class JsonLines:
    """A file of records in order of steps, flushed after each.

    Args:
        resume_step: records of later steps, and incomplete lines, are removed first; None empties the file.

    Raises:
        ValueError: on writing, for a step before the last one.
    """

    def __init__(self, path: Path, resume_step: int | None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.last_step_found = _keep(path, -1 if resume_step is None else resume_step)
        """Last step in the file before anything was removed; −1 if there was none."""
        self._file: IO[bytes] = path.open("r+b")
        self._last, self._last_start = _last_record(self._file)
        self._file.seek(0, 2)

    def append(self, step: int, record: Mapping[str, Any]) -> None:
        """Appends a line; a step may have several."""
        self._check(step)
        self._write({"step": step, **record})

    def merge(self, step: int, record: Mapping[str, Any]) -> None:
        """Adds to the last line if it is this step's, or appends one."""
        self._check(step)
        if self._last.get("step") == step:
            self._file.truncate(self._last_start)
            self._file.seek(self._last_start)
            self._write({**self._last, **record})
        else:
            self._write({"step": step, **record})

    def close(self) -> None:
        self._file.close()

    def _check(self, step: int) -> None:
        last = self._last.get("step", -1)
        if step < last:
            raise ValueError(f"step {step} comes after step {last} was written")

    def _write(self, record: dict[str, Any]) -> None:
        clean = plain(record)
        text = json.dumps(clean, ensure_ascii=False, allow_nan=False)
        self._last, self._last_start = clean, self._file.tell()
        # A lone surrogate in a model's text becomes its JSON escape.
        self._file.write(text.encode("utf-8", "backslashreplace") + b"\n")
        self._file.flush()


def plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """Values that JSON can hold. A number that is not finite becomes null, and ``NAME/non_finite`` 1 beside it."""
    out: dict[str, Any] = {}
    for name, value in record.items():
        out[str(name)] = clean = _plain(value)
        if clean is None and value is not None:
            out[f"{name}{NON_FINITE}"] = 1
    return out


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return plain(value)
    if hasattr(value, "tolist"):  # numpy and torch, scalars and arrays
        return _plain(value.tolist())
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    return str(value)


def parse(line: bytes) -> dict[str, Any] | None:
    """The record of one line; None if it is incomplete."""
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("step"), int) else None


def _keep(path: Path, last: int) -> int:
    """Keeps only complete records up to step ``last``, in one atomic replacement; returns the last step found."""
    path.touch()
    with path.open("rb") as file:
        steps = [record["step"] if (record := parse(line)) else None for line in file]
    wanted = [step is not None and step <= last for step in steps]
    if not all(wanted):
        with path.open("rb") as file, replacing(path, "wb") as kept:
            kept.writelines(line for line, keep in zip(file, wanted, strict=True) if keep)
    return max((step for step in steps if step is not None), default=-1)


def _last_record(file: IO[bytes]) -> tuple[dict[str, Any], int]:
    start, record = 0, {}
    offset = 0
    for line in file:
        start, record, offset = offset, json.loads(line), offset + len(line)
    return record, start

"""JSON lines of completions: read with their line numbers, written in one piece."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from r1rl.errors import DataError, writing

Row = dict[str, Any]


def count_lines(path: Path) -> int:
    """Lines that are not blank. Raises DataError when there is no such file."""
    if not path.is_file():
        raise DataError(f"{path} does not exist; give a file with one JSON object a line")
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


def read_rows(path: Path) -> Iterator[Row]:
    """The objects of a file, one a line. Raises DataError naming the line that is none."""
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path} line {number} is no JSON: {error}; mend or remove it") from error
            if not isinstance(row, dict):
                raise DataError(f"{path} line {number} is {type(row).__name__}, not an object; mend or remove it")
            yield row


def field(path: Path, row: Row, name: str, number: int) -> Any:
    """A row's value. Raises DataError naming the fields there are."""
    if name not in row:
        raise DataError(f"{path} row {number} has no field {name!r}; its fields: {', '.join(map(str, row)) or 'none'}")
    return row[name]


def text_of(value: Any) -> str:
    """A completion as text: a string, a conversation's contents, or any other value as JSON writes it."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(message, dict) for message in value):
        return "".join(str(message.get("content") or "") for message in value)
    return json.dumps(value)


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """A file that appears under its name only when the block has ended well."""
    partial = path.with_name(f".{path.name}.partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = partial.open("w", encoding="utf-8")
    try:
        with file:
            yield file
        with writing(path):
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)

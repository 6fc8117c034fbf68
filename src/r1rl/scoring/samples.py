"""Files of completions, one JSON object per line: read with line numbers, written atomically."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from r1rl.errors import DataError, ForeignError, writing
from r1rl.files import replacing
from r1rl.records import Row


def count_lines(path: Path) -> int:
    """Number of lines that are not blank. Raises DataError if the file does not exist."""
    if not path.is_file():
        raise DataError(f"{path} does not exist; give a file with one JSON object per line")
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


def read_rows(path: Path) -> Iterator[Row]:
    """The objects of a file, one per line. Raises DataError naming a line that is not an object."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path} line {number} is not valid JSON: {error}; fix or remove it") from error
            if not isinstance(row, dict):
                raise DataError(f"{path} line {number} is {type(row).__name__}, not an object; fix or remove it")
            yield row


def field(path: Path, row: Row, name: str, number: int) -> Any:
    """The value of a row's field. Raises DataError that lists the existing fields."""
    if name not in row:
        raise DataError(f"{path} row {number} has no field {name!r}; its fields: {', '.join(map(str, row)) or 'none'}")
    return row[name]


def text_of(value: Any) -> str:
    """A completion as text: a string, the contents of a conversation, or any other value as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(message, dict) for message in value):
        return "".join(str(message.get("content") or "") for message in value)
    return json.dumps(value)


@contextmanager
def whole_file(path: Path, overwrite: bool = False) -> Iterator[IO[str]]:
    """A file that appears under its name only when the block ends without an error.

    Raises: ForeignError for an existing file, unless ``overwrite``.
    """
    if path.is_file() and path.stat().st_size and not overwrite:
        raise ForeignError(f"{path} exists and is left alone; choose another file, or add --overwrite")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            yield file

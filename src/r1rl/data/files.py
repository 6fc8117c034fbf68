"""Reads local data files, with one function per format; every row comes with its place in the file."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from r1rl.config.data import DatasetConfig
from r1rl.errors import DataError, first_line
from r1rl.places import nearest


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row with its place in the source, for example ``line 17``."""

    place: str
    values: dict[str, Any]


def read_file(config: DatasetConfig, skipped: Counter[str]) -> Iterator[SourceRow]:
    """The rows of ``config.path``, read lazily; corrupt ones raise, or are counted in ``skipped``.

    Raises: DataError for a file that is missing, of an unknown format, or corrupt.
    """
    path = existing(config.path)
    return READERS[path.suffix.lower()](path, config, skipped)


def existing(name: str) -> Path:
    """The file's path. Raises DataError if it does not exist or has an unsupported format."""
    path = Path(name).expanduser()
    if not path.is_file():
        raise DataError(
            f"dataset file {path} does not exist (looked from {Path.cwd()}){nearest(path)}; correct data.*.path"
        )
    if path.suffix.lower() not in READERS:
        raise DataError(f"dataset file {path} has an unsupported format; use {' or '.join(READERS)}")
    return path


def _read_jsonl(path: Path, config: DatasetConfig, skipped: Counter[str]) -> Iterator[SourceRow]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield SourceRow(
                    f"line {number}", _json_object(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
                )
            except ValueError as error:
                _corrupt(path, f"line {number}", error, config, skipped)


def _corrupt(path: Path, place: str, error: Exception, config: DatasetConfig, skipped: Counter[str]) -> None:
    if config.on_bad_row == "error":
        raise DataError(f"{path} {place} is corrupt: {error}; fix the line, or set on_bad_row: skip") from error
    skipped["corrupt"] += 1


def _json_object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError(f"expected an object of columns, found {type(value).__name__}")
    return value


def _read_json(path: Path, config: DatasetConfig, skipped: Counter[str]) -> Iterator[SourceRow]:
    """A list of objects, or one object per line, for which many datasets also use the ending .json."""
    try:
        document = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            yield from _read_jsonl(path, config, skipped)
            return
        raise DataError(f"{path} is not JSON: {error}; fix the file") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}; fix the file") from error
    if not isinstance(document, list):
        raise DataError(f"{path} must be a list of rows, not a {type(document).__name__}; use one row per line")
    for number, value in enumerate(document, start=1):
        if isinstance(value, dict):
            yield SourceRow(f"row {number}", value)
        elif config.on_bad_row == "error":
            raise DataError(f"{path} row {number} is not an object; fix the row, or set on_bad_row: skip")
        else:
            skipped["corrupt"] += 1


def _read_parquet(path: Path, config: DatasetConfig, skipped: Counter[str]) -> Iterator[SourceRow]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for values in batch.to_pylist():
                    number += 1
                    yield SourceRow(f"row {number}", values)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {first_line(error)}; fix or replace the file") from error


def _read_csv(path: Path, config: DatasetConfig, skipped: Counter[str]) -> Iterator[SourceRow]:
    """Every cell is read verbatim as text: ``007`` and ``1.50`` are unchanged, an empty cell is an empty string.

    The first line names the columns; a quoted cell may contain line breaks. A row with more or fewer cells than names
    is corrupt: an unclosed quote looks like that.
    """
    csv.field_size_limit(2**31 - 1)  # process-wide; the default rejects cells of 131,072 characters
    names, delimiter = header(path)
    with _opened(path) as file:
        rows = csv.reader(file, delimiter=delimiter, strict=True)
        next(rows, None)
        while True:
            place = f"line {rows.line_num + 1}"
            try:
                cells = next(rows, None)
            except csv.Error as error:
                _corrupt(path, place, error, config, skipped)
                continue
            if cells is None:
                return
            if cells and len(cells) != len(names):
                wrong = ValueError(f"{len(cells)} cells, but the first line names {len(names)}")
                _corrupt(path, place, wrong, config, skipped)
            elif cells:
                yield SourceRow(place, {name: cell for name, cell in zip(names, cells, strict=True) if name})


def header(path: Path) -> tuple[list[str], str]:
    """The column names of a table and its delimiter: a tab in .tsv; in .csv whichever of comma, semicolon and tab
    splits the first line into most names.

    Columns without a name (after a trailing delimiter, or an exported index) are empty here and left out of the rows.
    """
    delimiters = "\t" if path.suffix.lower() == ".tsv" else ",;\t"
    found = []
    for delimiter in delimiters:
        with _opened(path) as file:
            try:
                found.append([name.strip() for name in next(csv.reader(file, delimiter=delimiter), [])])
            except csv.Error as error:
                raise DataError(f"{path}: its first line is not valid CSV: {error}; fix it") from error
    names = max(found, key=len)
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise DataError(f"{path} has two columns called {twice[0]!r}; rename one in the first line")
    return names, delimiters[found.index(names)]


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    with path.open("rb") as start:
        encoding = "utf-16" if start.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        with path.open(encoding=encoding, newline="") as file:
            yield file
    except UnicodeError as error:
        raise DataError(f"{path} is not UTF-8 ({error}); save it as UTF-8 (in Excel: CSV UTF-8)") from error


READERS: dict[str, Callable[[Path, DatasetConfig, Counter[str]], Iterator[SourceRow]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
}
"""By file name extension, in lower case."""

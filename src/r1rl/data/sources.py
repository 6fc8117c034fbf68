"""Reads the rows of a dataset, wherever it is: the Hugging Face hub, a local file, or a generator.

Every failure is a DataError of one line that names the place and what to change.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

from r1rl.config.data import DatasetConfig
from r1rl.errors import DataError
from r1rl.imports import import_module

Generator: TypeAlias = Callable[..., list[dict[str, Any]]]

GENERATED: dict[str, Generator] = {}
"""Functions that make rows, by the name that ``path: generated:NAME`` gives; the dataset's ``args`` are theirs."""

_BUILT_IN_GENERATORS = ("r1rl.data.countdown", "r1rl.data.toy")


def register_generated(name: str) -> Callable[[Generator], Generator]:
    """Enter a generator in the table: ``(**args) -> rows``, the same rows for the same arguments."""

    def register(function: Generator) -> Generator:
        GENERATED[name] = function
        return function

    return register


@dataclass(frozen=True, slots=True)
class Row:
    """One row with its place in the source, for example ``line 17``."""

    place: str
    values: dict[str, Any]


@dataclass(slots=True)
class Rows:
    """What was read from a source, and how many rows were left out, by reason."""

    rows: list[Row]
    skipped: Counter[str] = field(default_factory=Counter)


def load_rows(config: DatasetConfig) -> list[dict[str, Any]]:
    """The rows of a dataset as plain dictionaries, after ``skip`` and ``limit``.

    Raises DataError for a dataset, subset or split that does not exist, a file that cannot be read, a corrupt line
    (unless ``on_bad_row: skip``), a generator that is unknown or refuses its arguments, and a dataset without rows.
    """
    return [row.values for row in read_rows(config).rows]


def read_rows(config: DatasetConfig) -> Rows:
    """As ``load_rows``, with each row's place and the count of corrupt lines left out (reason ``corrupt``)."""
    skipped: Counter[str] = Counter()
    stop = None if config.limit is None else config.skip + config.limit
    rows = list(itertools.islice(_open(config, skipped), config.skip, stop))
    if not rows:
        beyond = f" after skip: {config.skip}" if config.skip else ""
        corrupt = f" ({skipped['corrupt']} corrupt lines left out)" if skipped else ""
        raise DataError(f"dataset {config.path} is empty{beyond}{corrupt}; check its path, split and skip")
    return Rows(rows, skipped)


def look(config: DatasetConfig) -> None:
    """Raises DataError for what can be seen to be missing without reading or downloading anything."""
    if config.path.startswith("generated:"):
        _bound(config)
    elif Path(config.path).suffix in _FILE_READERS:
        _file(config)
    else:
        _folder_or_name(config)


def _open(config: DatasetConfig, skipped: Counter[str]) -> Iterator[Row]:
    if config.path.startswith("generated:"):
        return _numbered(_bound(config)(**config.args))
    reader = _FILE_READERS.get(Path(config.path).suffix)
    return _hub(config) if reader is None else reader(_file(config), config, skipped)


def _file(config: DatasetConfig) -> Path:
    path = Path(config.path).expanduser()
    if not path.is_file():
        raise DataError(f"dataset file {path} does not exist (looked from {Path.cwd()}); correct data.*.path")
    return path


def _folder_or_name(config: DatasetConfig) -> str:
    """What the hub's library takes: a folder that is there, or a name."""
    if config.path.startswith((".", "/", "~")) and not Path(config.path).expanduser().is_dir():
        raise DataError(
            f"dataset {config.path} does not exist; give a .jsonl, .json or .parquet file, a folder of such files, "
            "a Hugging Face name or generated:NAME"
        )
    return str(Path(config.path).expanduser())


# --------------------------------------------------------------------------------------------------- local files


def _read_jsonl(path: Path, config: DatasetConfig, skipped: Counter[str]) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield Row(f"line {number}", _json_object(line))
            except ValueError as error:
                if config.on_bad_row == "error":
                    raise DataError(
                        f"{path} line {number} is corrupt: {error}; mend the line, or set on_bad_row: skip"
                    ) from error
                skipped["corrupt"] += 1


def _json_object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError(f"expected an object of columns, found {type(value).__name__}")
    return value


def _read_json(path: Path, config: DatasetConfig, skipped: Counter[str]) -> Iterator[Row]:
    """A list of objects; or one object a line, which many datasets also call .json."""
    try:
        document = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            yield from _read_jsonl(path, config, skipped)
            return
        raise DataError(f"{path} is not JSON: {error}; mend the file") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}; mend the file") from error
    if not isinstance(document, list):
        raise DataError(f"{path} must hold a list of rows, and holds a {type(document).__name__}; use one row a line")
    for number, value in enumerate(document, start=1):
        if isinstance(value, dict):
            yield Row(f"row {number}", value)
        elif config.on_bad_row == "error":
            raise DataError(f"{path} row {number} is no object of columns; mend the row, or set on_bad_row: skip")
        else:
            skipped["corrupt"] += 1


def _read_parquet(path: Path, config: DatasetConfig, skipped: Counter[str]) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        values = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {_first_line(error)}; mend or replace the file") from error
    return _numbered(values)


_FILE_READERS: dict[str, Callable[[Path, DatasetConfig, Counter[str]], Iterator[Row]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".parquet": _read_parquet,
}


def _numbered(values: list[dict[str, Any]]) -> Iterator[Row]:
    return (Row(f"row {number}", value) for number, value in enumerate(values, start=1))


# ------------------------------------------------------------------------------------- the Hugging Face hub, folders


def _hub(config: DatasetConfig) -> Iterator[Row]:
    import datasets

    name = _folder_or_name(config)
    try:
        table = datasets.load_dataset(name, config.subset, split=config.split, revision=config.revision)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        where = ", ".join(
            f"{key} {value!r}" for key, value in (("subset", config.subset), ("split", config.split)) if value
        )
        raise DataError(
            f"dataset {config.path} ({where}) cannot be loaded: {_first_line(error)}; "
            "check path, subset and split, or download it and give the local file"
        ) from error
    stop = len(table) if config.limit is None else min(len(table), config.skip + config.limit)
    return _numbered(table.select(range(stop)).to_list())


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# ------------------------------------------------------------------------------------------------------ generators


def _bound(config: DatasetConfig) -> Generator:
    """The generator, which takes the arguments that are given."""
    function = _generator(config.path.removeprefix("generated:"))
    try:
        inspect.signature(function).bind(**config.args)
    except TypeError as error:
        takes = ", ".join(inspect.signature(function).parameters)
        raise DataError(f"{config.path} cannot take these args: {error}; it takes {takes}") from error
    return function


def _generator(name: str) -> Generator:
    """A registered generator, or ``package.module:function``."""
    module, _, attribute = name.partition(":")
    if attribute:
        try:
            return getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise DataError(f"generated:{name} cannot be imported: {error}; correct data.*.path") from error
    for built_in in _BUILT_IN_GENERATORS:
        if find_spec(built_in):
            importlib.import_module(built_in)
    if name not in GENERATED:
        raise DataError(f"generated:{name} is unknown; there are {', '.join(sorted(GENERATED))}, or module:function")
    return GENERATED[name]

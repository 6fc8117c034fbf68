"""Reads the rows of a dataset: the Hugging Face hub, a local file, or a generator.

Every failure is a one-line DataError that names the place and what to change.
"""

from __future__ import annotations

import inspect
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from r1rl.config.data import DatasetConfig
from r1rl.data.files import READERS, SourceRow, existing, header, read_file
from r1rl.errors import DataError, first_line
from r1rl.places import FILE_ENDINGS, is_local, nearest
from r1rl.registry import MAPS, SOURCES

RowGenerator: TypeAlias = Callable[..., list[dict[str, Any]]]
"""Makes the rows of ``path: generated:NAME`` from the dataset's ``args``; identical for the same arguments."""

RowFunction: TypeAlias = Callable[[dict[str, Any]], dict[str, Any] | None]
"""What ``map`` names: a row from a row of the dataset, or None to leave it out."""


@dataclass(slots=True)
class SourceRows:
    """The rows of a source, and how many were skipped, by reason."""

    rows: list[SourceRow]
    skipped: Counter[str] = field(default_factory=Counter)


def load_rows(config: DatasetConfig) -> list[dict[str, Any]]:
    """The rows of a dataset as plain dictionaries, after ``skip`` and ``limit``.

    Raises DataError for a dataset, subset or split that does not exist, a file that cannot be read, a corrupt line
    (unless ``on_bad_row: skip``), a generator that is unknown or rejects its arguments, and a dataset without rows.
    """
    return [row.values for row in read_rows(config).rows]


def read_rows(config: DatasetConfig) -> SourceRows:
    """As ``load_rows``, with each row's place, and the numbers of rows skipped by reason: ``corrupt`` lines, those that
    ``map`` cannot read (``bad_row``) and those that it leaves out (``mapped_out``)."""
    skipped: Counter[str] = Counter()
    stop = None if config.limit is None else config.skip + config.limit
    rows = list(_mapped(config, itertools.islice(_open(config, skipped), config.skip, stop), skipped))
    if not rows:
        beyond = f" after skip: {config.skip}" if config.skip else ""
        out = f" ({', '.join(f'{count} {reason}' for reason, count in skipped.items())} left out)" if skipped else ""
        raise DataError(f"dataset {config.path} is empty{beyond}{out}; check its path, split and skip")
    return SourceRows(rows, skipped)


def first_rows(config: DatasetConfig, count: int) -> list[SourceRow]:
    """The first rows of a local or generated dataset, without corrupt ones; nothing is downloaded.

    Raises DataError as ``read_rows``, and for a missing folder; empty for a dataset on the hub.
    """
    look(config)
    if config.path.startswith("generated:") or Path(config.path).expanduser().is_file():
        lenient = config.model_copy(update={"on_bad_row": "skip"})
        rows = itertools.islice(_open(lenient, Counter()), config.skip, config.skip + count)
        return list(_mapped(lenient, rows, Counter()))
    return []


def count_rows(config: DatasetConfig) -> int | None:
    """Rows of a local file, without corrupt ones; None for an unreadable file and for anything that is not a local
    file."""
    if not Path(config.path).expanduser().is_file():
        return None
    lenient = config.model_copy(update={"on_bad_row": "skip"})
    try:
        return sum(1 for _ in _open(lenient, Counter()))
    except DataError:
        return None


def look(config: DatasetConfig) -> None:
    """Raises DataError for what is visibly missing, without reading or downloading anything."""
    if config.path.startswith("generated:"):
        _bound(config)
    elif _is_file(config.path):
        existing(config.path)
    else:
        _folder_or_name(config)


def _open(config: DatasetConfig, skipped: Counter[str]) -> Iterator[SourceRow]:
    if config.path.startswith("generated:"):
        return _numbered(_bound(config)(**config.args))
    return read_file(config, skipped) if _is_file(config.path) else _datasets(config)


def _mapped(config: DatasetConfig, rows: Iterator[SourceRow], skipped: Counter[str]) -> Iterator[SourceRow]:
    """The rows as ``map`` makes them."""
    if config.map is None:
        yield from rows
        return
    function: RowFunction = MAPS.load(config.map)
    for row in rows:
        try:
            values = function(dict(row.values))
            if values is not None and not isinstance(values, dict):
                raise TypeError(f"it returned {type(values).__name__}, not a dictionary of columns or None")
        except Exception as error:  # the user's function may raise anything
            if config.on_bad_row == "error":
                raise DataError(
                    f"dataset {config.path} {row.place}: map {config.map} fails: {type(error).__name__}: "
                    f"{first_line(error)}; correct it, or set on_bad_row: skip"
                ) from error
            skipped["bad_row"] += 1
            continue
        if values is None:
            skipped["mapped_out"] += 1
        else:
            yield SourceRow(row.place, values)


def _is_file(name: str) -> bool:
    path = Path(name).expanduser()
    return path.is_file() or (path.suffix.lower() in FILE_ENDINGS and not path.is_dir())


def _folder_or_name(config: DatasetConfig) -> str:
    """The path as the ``datasets`` library takes it: an existing folder, or a name on the hub."""
    folder = Path(config.path).expanduser()
    if is_local(config.path) and not folder.is_dir():
        *others, last = READERS
        raise DataError(
            f"dataset {config.path} does not exist; give a {', '.join(others)} or {last} file, a folder of such files, "
            f"a Hugging Face name or generated:NAME{nearest(folder)}"
        )
    return str(folder)


def _numbered(values: list[dict[str, Any]]) -> Iterator[SourceRow]:
    return (SourceRow(f"row {number}", value) for number, value in enumerate(values, start=1))


# ------------------------------------------------------------------------------------- the Hugging Face hub, folders


def _datasets(config: DatasetConfig) -> Iterator[SourceRow]:
    import datasets

    name = _folder_or_name(config)
    try:
        table = datasets.load_dataset(
            name, config.subset, split=config.split, revision=config.revision, **_as_text(Path(name))
        )
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        where = ", ".join(
            f"{key} {value!r}" for key, value in (("subset", config.subset), ("split", config.split)) if value
        )
        raise DataError(
            f"dataset {config.path} ({where}) cannot be loaded: {first_line(error)}; "
            "check path, subset and split, or download it and give the local file"
        ) from error
    stop = len(table) if config.limit is None else min(len(table), config.skip + config.limit)
    return _numbered(table.select(range(stop)).to_list())


def _as_text(folder: Path) -> dict[str, Any]:
    """Options that keep the cells of a folder's CSV files as text, as for a single file."""
    endings = Counter(path.suffix.lower() for path in folder.rglob("*.*")) if folder.is_dir() else Counter()
    if not endings or endings.most_common(1)[0][0] not in (".csv", ".tsv"):
        return {}
    import datasets

    names, delimiter = header(min(path for path in folder.rglob("*.*") if path.suffix.lower() in (".csv", ".tsv")))
    columns = {name or f"Unnamed: {place}": datasets.Value("string") for place, name in enumerate(names)}
    return {"features": datasets.Features(columns), "sep": delimiter, "keep_default_na": False}


# ------------------------------------------------------------------------------------------------------ generators


def _bound(config: DatasetConfig) -> RowGenerator:
    """The generator, after checking that it accepts the given arguments."""
    function: RowGenerator = SOURCES.load(config.path.removeprefix("generated:"))
    try:
        inspect.signature(function).bind(**config.args)
    except TypeError as error:
        takes = ", ".join(inspect.signature(function).parameters)
        raise DataError(f"{config.path} cannot take these args: {error}; it takes {takes}") from error
    return function

"""Errors meant for the person at the terminal: what happened, where, what to change."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path


class R1Error(Exception):
    """Base of every error r1rl raises on purpose; the command line prints its message alone, in one line."""

    exit_code = 2
    """What the process ends with."""


class ConfigError(R1Error):
    """A key, a value or a combination in the configuration that cannot work."""


class DataError(R1Error):
    """A dataset that is missing, empty, malformed or without a needed column."""


class RewardError(R1Error):
    """A reward function that cannot be found or that broke its contract."""


class ModelError(R1Error):
    """A model folder or checkpoint that cannot be used."""


class TrainingError(R1Error):
    """A guard stopped the run: a non-finite or collapsed quantity."""


class StorageError(R1Error):
    """A folder that cannot be written, a full disk, or a run folder that another process is using."""


class EngineError(R1Error):
    """The engine that samples completions failed, hung, or serves other weights than the learner's."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the block writes to ``path``, or beside it, may fail in one line.

    Raises: StorageError for a place that cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}; name another place") from error


def tell(text: str) -> None:
    """Say something to the person at the terminal: one line on stderr, whatever the text holds."""
    print(f"r1rl: {' '.join(text.split())}", file=sys.stderr)

"""Errors meant for the person at the terminal: what happened, where, what to change."""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Iterator
from pathlib import Path


class R1Error(Exception):
    """Base of every error r1rl raises on purpose; the command line prints its message alone, in one line."""

    exit_code = 2
    """Exit status of the process."""


class ConfigError(R1Error):
    """A key, a value or a combination in the configuration that cannot work."""


class DataError(R1Error):
    """A dataset that is missing, empty, malformed or without a needed column."""


class RewardError(R1Error):
    """A reward function that cannot be found or that broke its contract."""


class ModelError(R1Error):
    """A model folder or checkpoint that cannot be used."""


class TrainingError(R1Error):
    """Training cannot continue: a guard stopped it, memory ran out, a process was lost, or nothing was sampled."""


class StorageError(R1Error):
    """A folder that cannot be written, a full disk, or a run folder that another process is using."""


class ForeignError(ConfigError):
    """An output path with files that r1rl did not write and does not replace."""


class EngineError(R1Error):
    """The engine that samples completions failed, hung, or serves weights other than the learner's."""


class SandboxError(R1Error):
    """Programs cannot be run in isolation: nothing that isolates is installed or allowed, or a sandbox broke."""


def first_line(error: BaseException) -> str:
    """The first line of what an error of somebody else's says; its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Converts OSErrors from writing to ``path``, or beside it, to StorageError.

    Raises: StorageError for a path that cannot be written, or a full disk.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}; {_remedy(error)}") from error
    except Exception as error:
        # Safetensors and pickle raise their own errors, which contain the system's message.
        if type(error).__name__ != "SafetensorError" or "os error" not in str(error).lower():
            raise
        raise StorageError(f"cannot write {path}: {error}; free space or choose another path") from error


@contextlib.contextmanager
def naming_the_disk(folder: Path) -> Iterator[None]:
    """Converts OSErrors about ``folder`` anywhere in the block to StorageError; others pass through.

    Raises: StorageError for a full disk, and for files that may not be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK:
            raise
        place = error.filename or f"a file in {folder}"
        raise StorageError(f"cannot write {place}: {error.strerror}; {_remedy(error)}") from error


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


def _remedy(error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return "free space, then run the same command, or choose another path" if full else "choose another path"


def tell(text: str) -> None:
    """Print a message for the person at the terminal as one line on stderr, whatever the text contains."""
    print(f"r1rl: {' '.join(text.split())}", file=sys.stderr)

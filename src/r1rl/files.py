"""Writes to disk: completely or not at all, and never over files that r1rl did not write.

A file is written beside its target and renamed (:func:`replacing`). A folder that r1rl creates contains
:data:`MANIFEST`, by which r1rl recognises its own folders; without it nothing is removed or replaced. :func:`claim`
marks a folder that r1rl works in (a run, a stage, its checkpoints), :func:`publishing` one that it hands to others (a
model) together with the digest of every file, so that a later one replaces what r1rl wrote and nothing else.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal

from r1rl.errors import ForeignError, StorageError, writing

MANIFEST = ".r1rl.json"
"""In every folder created by r1rl: ``files`` maps each published file to the SHA-256 digests it may have."""

_DRAFT = ".r1rl-draft"
_LOCK = ".lock"
_SHOWN = 3


@contextlib.contextmanager
def replacing(path: Path, mode: Literal["w", "wb"] = "w") -> Iterator[IO[Any]]:
    """A stream whose content replaces ``path`` when the block ends without an error; text is UTF-8.

    No reader ever sees a partial file: it is written beside the old one, flushed to the disk and renamed. A lone
    surrogate in text is escaped. A device or a pipe is written to directly.

    Raises: OSError; the previous file is unchanged then.
    """
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "errors": "backslashreplace"}
    path = path.resolve() if path.is_symlink() else path
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open(mode, **text) as stream:
            yield stream
        return
    draft = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.partial")
    stream = draft.open(mode.replace("w", "x"), **text)
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` as a whole."""
    with replacing(path) as stream:
        stream.write(text)


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Replace ``path`` as a whole."""
    with replacing(path, "wb") as stream:
        stream.write(content)


def write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    """Replace ``path`` as a whole, with strict JSON (see :func:`finite`)."""
    write_text(path, json.dumps(finite(value), indent=indent, allow_nan=False) + "\n")


def json_line(value: Any) -> str:
    """A line of a JSON Lines file, strict JSON (see :func:`finite`)."""
    return json.dumps(finite(value), allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """The value for strict JSON: NaN and infinities become null."""
    if isinstance(value, Mapping):
        return {str(name): finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [finite(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return finite(value.tolist()) if hasattr(value, "tolist") else str(value)


def check_generated(path: Path, mark: str) -> None:
    """Refuse to overwrite a file without the ``mark`` of r1rl's generated files; an empty one may be replaced.

    Raises: ForeignError.
    """
    if path.is_file() and path.stat().st_size and mark.encode() not in path.read_bytes():
        raise ForeignError(f"{path} was not written by r1rl and is left alone; choose another file")


def claim(folder: Path) -> None:
    """Make ``folder`` r1rl's own: a missing or empty one is marked, a marked one is left unchanged.

    Raises: ForeignError: it contains files that r1rl did not write.
        StorageError: it cannot be written.
    """
    with writing(folder):
        if folder.exists() and not folder.is_dir():
            raise ForeignError(f"{folder} is a file; choose another folder")
        folder.mkdir(parents=True, exist_ok=True)
        if is_own(folder):
            return
        _reject_others(folder)
        mark(folder)


def mark(folder: Path) -> None:
    """Mark a folder that the caller has just created, or has recognised as r1rl's by other means."""
    _write_manifest(folder, {})


def is_own(folder: Path) -> bool:
    """Whether r1rl created this folder."""
    return _listed(folder) is not None


def workplace(path: Path) -> Path | None:
    """The innermost folder that r1rl works in (a run's, a stage's, its checkpoints) which is ``path`` or around it.

    A published folder is not one: it was made for others to use.
    """
    path = path.expanduser().resolve()
    for place in (path, *path.parents):
        with contextlib.suppress(PermissionError):  # not r1rl's, up to the root
            if _listed(place) == {}:
                return place
    return None


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Locks one of r1rl's folders against other processes that do the same. The lock is released when the process ends,
    however it ends.

    Raises: StorageError if another process holds the lock, or the file system does not support locks.
    """
    with writing(folder / _LOCK):
        lock = (folder / _LOCK).open("a+")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            who = lock.read().strip() or "unknown"
            raise StorageError(f"{folder} is in use by process {who}; wait for it, or choose another folder") from error
        except OSError as error:
            raise StorageError(
                f"{folder} cannot be locked ({error.strerror or error}): choose a file system that supports locks"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def discard(folder: Path) -> None:
    """Remove a folder that r1rl made, with everything in it; a missing folder is not an error.

    For a link to one, only the link is removed.

    Raises: ForeignError for a folder without r1rl's mark.
    """
    if not folder.exists():
        return
    begun = f".{MANIFEST}."  # a kill between creating a folder and marking it leaves at most this
    if not is_own(folder) and not all(entry.name.startswith(begun) for entry in folder.iterdir()):
        raise ForeignError(f"{folder} was not made by r1rl and is left alone; move it away")
    if folder.is_symlink():
        folder.unlink()
        return
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != MANIFEST:
            entry.unlink()
    (folder / MANIFEST).unlink(missing_ok=True)  # last: the rest is still recognised after a kill
    folder.rmdir()


def clear(place: Path) -> None:
    """Remove what an unfinished stage wrote: a file, or the folders that r1rl made in a folder of its own.

    That folder is removed too once it is empty. A link to it stays, pointing to an empty folder: its owner wants later
    files there too.

    Raises: ForeignError, as :func:`discard`; OSError.
    """
    if not place.is_dir():
        place.unlink(missing_ok=True)
        return
    for entry in list(place.iterdir()):
        if is_own(entry):
            discard(entry)
    if not place.is_symlink() and not any(entry.is_dir() for entry in place.iterdir()):
        discard(place)


def draft_of(final: Path) -> Path:
    """Where :func:`publishing` collects the files of ``final``, on the same file system."""
    final = final.expanduser().resolve()
    return final / _DRAFT if final.is_dir() else final.with_name(f"{_DRAFT}-{final.name}")


@contextlib.contextmanager
def publishing(final: Path) -> Iterator[Path]:
    """A draft folder whose files replace those of ``final`` when the block ends without an error.

    Files that r1rl published there earlier are replaced, other files are kept. A new folder appears atomically.

    Raises: ForeignError: ``final`` is a file, contains other files, or r1rl's own files were changed there.
        StorageError: it cannot be written, or the disk is full; the previous files are untouched.
    """
    check_publishable(final)
    draft, final = draft_of(final), final.expanduser().resolve()
    with writing(final):
        discard(draft)  # left by a killed process
        draft.mkdir(parents=True)
        mark(draft)
        try:
            yield draft
            files = {name: [file_digest(draft / name)] for name in _names(draft)}
            _write_manifest(draft, files)
            check_publishable(final, files)
            if final.exists():
                _move_in(draft, final, files)
            else:
                os.replace(draft, final)
        finally:
            discard(draft)


def check_publishable(final: Path, names: Iterable[str] = ()) -> None:
    """Check that :func:`publishing` may write there, before the work that leads to it.

    Args:
        names: of the files that are about to be written.

    Raises: ForeignError.
    """
    final = final.expanduser().resolve()
    if final.exists() and not final.is_dir():
        raise ForeignError(f"{final} is a file; name a folder to write to")
    if not final.exists():
        return
    files = _listed(final)
    if files is None:
        _reject_others(final)
        return
    changed = [name for name, known in files.items() if not _unchanged(final / name, known)]
    taken = [name for name in names if name not in files and name != MANIFEST and os.path.lexists(final / name)]
    if changed or taken:
        why = "was changed since r1rl wrote it" if changed else "was not written by r1rl"
        raise ForeignError(f"{final / (changed or taken)[0]} {why} and is left alone; choose another folder")


def _move_in(draft: Path, final: Path, files: dict[str, list[str]]) -> None:
    """Replace the listed files. A crash in between leaves a manifest that lists both the old and the new ones."""
    old = _listed(final) or {}
    _write_manifest(final, {name: [*old.get(name, []), *files.get(name, [])] for name in old | files})
    for name in old:
        (final / name).unlink(missing_ok=True)
    for folder in sorted({(final / name).parent for name in old} - {final}, reverse=True):
        with contextlib.suppress(OSError):  # not empty, or gone
            folder.rmdir()
    for name in sorted(files, key=lambda name: name == "config.json"):  # written last: it makes the folder a model
        (final / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(draft / name, final / name)
    _write_manifest(final, files)


def _reject_others(folder: Path) -> None:
    others = sorted(entry.name for entry in folder.iterdir() if not (entry.name == _DRAFT and is_own(entry)))
    if others:
        more = ", …" if len(others) > _SHOWN else ""
        raise ForeignError(
            f"{folder} contains files that r1rl did not write ({', '.join(others[:_SHOWN])}{more}); "
            "choose another folder"
        )


def _listed(folder: Path) -> dict[str, list[str]] | None:
    """The published files of a folder that r1rl created; None for any other."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None
    return files if isinstance(files, dict) else None


def _write_manifest(folder: Path, files: dict[str, list[str]]) -> None:
    write_json(folder / MANIFEST, {"written_by": "r1rl", "files": files})


def _names(folder: Path) -> list[str]:
    files = (str(file.relative_to(folder)) for file in sorted(folder.rglob("*")) if not file.is_dir())
    return [name for name in files if name != MANIFEST]


def _unchanged(file: Path, digests: list[str]) -> bool:
    """Whether the file is unchanged since r1rl wrote it, or missing."""
    return not os.path.lexists(file) or (file.is_file() and not file.is_symlink() and file_digest(file) in digests)


def file_digest(file: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()

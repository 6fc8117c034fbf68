"""Hashes of files and folders, over every byte; those of large files are cached."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import xxhash

from r1rl.files import write_json

LARGE = 16 << 20
"""Size in bytes from which a file's hash is cached between runs."""
MOST_FILES = 20_000
"""A folder with more files is represented by its name alone: it is not a data set or a model."""
_SETTLED_S = 2.0
"""A file changed more recently than this may change again without a new time stamp, so its hash is not cached."""
_BLOCK = 4 << 20


def content(path: Path) -> str:
    """Hash of a file, or of every file in a folder that is not hidden: relative names and bytes.

    Raises: OSError where something cannot be read.
    """
    if path.is_file():
        return _file(path)
    hashed = xxhash.xxh3_128()
    for count, file in enumerate(_files(path)):
        if count == MOST_FILES:
            return f"more than {MOST_FILES} files"
        hashed.update(f"{file.relative_to(path).as_posix()}\0{_file(file)}\0".encode())
    return hashed.hexdigest()


def digest(value: object) -> str:
    """Hash of a JSON-serializable value, 16 hexadecimal digits."""
    return xxhash.xxh3_64_hexdigest(json.dumps(value, sort_keys=True).encode())


def _files(folder: Path) -> Iterator[Path]:
    """Files of a folder in a fixed order, without hidden ones (``.git``, ``.cache``, drafts) and compiled Python."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def _file(path: Path) -> str:
    stat = path.stat()
    if stat.st_size < LARGE:
        return xxhash.xxh3_128_hexdigest(path.read_bytes())
    # The modification time can be set back by hand; the inode's change time cannot.
    key = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"
    known = _remembered().get(key)
    if known is None:
        known = _read(path)
        if time.time() - max(stat.st_mtime, stat.st_ctime) > _SETTLED_S:
            _remember(key, known)
    return known


def _read(path: Path) -> str:
    hashed = xxhash.xxh3_128()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            hashed.update(block)
    return hashed.hexdigest()


# ----------------------------------------------------------------------------------------------------------- cache


def _place() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "r1rl" / "hashes.json"


@functools.cache
def _remembered() -> dict[str, str]:
    """Hashes of large files by path, size, times and inode. Without this cache the files are read again."""
    try:
        found = json.loads(_place().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):  # RuntimeError: there is no home folder
        return {}
    return found if isinstance(found, dict) else {}


def _remember(key: str, value: str) -> None:
    known = _remembered()
    name = key.rsplit(" ", 4)[0]
    for old in [each for each in known if each.rsplit(" ", 4)[0] == name]:
        del known[old]
    known[key] = value
    with contextlib.suppress(OSError, RuntimeError):
        place = _place()
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(place, known)

"""Files are hashed whole; what is remembered about large ones never hides a change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from r1rl.fingerprint import content as module
from r1rl.fingerprint.content import content


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and files that are large at a kilobyte."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "LARGE", 1024)
    module._remembered.cache_clear()
    yield tmp_path / "cache" / "r1rl" / "hashes.json"
    module._remembered.cache_clear()


def old(path: Path) -> Path:
    """As if it had been written long ago, so far as its owner can say."""
    os.utime(path, (1e9, 1e9))
    return path


def test_a_byte_in_the_middle_of_a_large_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"x" * 90_000_000)
    before = content(old(path))
    with path.open("r+b") as stream:
        stream.seek(45_000_000)
        stream.write(b"y")
    assert content(old(path)) != before  # of the same size, inode and modification time


def test_a_large_file_is_read_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"x" * 4096)
    monkeypatch.setattr(module, "_SETTLED_S", -1.0)
    before = content(path)
    assert cache.is_file()
    module._remembered.cache_clear()  # another process
    monkeypatch.setattr(module, "_read", lambda path: pytest.fail("read again"))
    assert content(path) == before


def test_a_file_that_was_just_written_is_not_remembered(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b"x" * 4096)
    content(tmp_path / "rows.jsonl")
    assert not cache.exists()


@pytest.mark.parametrize("spoilt", ["{", "[]", "missing"])
def test_the_cache_is_only_a_cache(tmp_path: Path, cache: Path, spoilt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"x" * 4096)
    monkeypatch.setattr(module, "_SETTLED_S", -1.0)
    before = content(path)
    cache.unlink() if spoilt == "missing" else cache.write_text(spoilt)
    module._remembered.cache_clear()
    assert content(path) == before
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")  # no place to write to
    module._remembered.cache_clear()
    assert content(path) == before


def test_a_folder_is_its_files_and_not_what_is_hidden(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "sub" / "weights").write_text("1")
    before = content(folder)
    for hidden in (".git", "__pycache__"):
        (folder / hidden).mkdir()
        (folder / hidden / "index").write_text("1")
    assert content(folder) == before
    (folder / "sub" / "weights").rename(folder / "sub" / "weighs")
    assert content(folder) != before

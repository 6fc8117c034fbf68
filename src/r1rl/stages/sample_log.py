"""Writes samples to disk while they are drawn, so that a killed run resumes where it stopped."""

from __future__ import annotations

import json
import os
from pathlib import Path

from r1rl.files import json_line, write_bytes
from r1rl.records import Row


class SampleLog:
    """One line per problem with all its samples, one file per process; a line cut off by a kill is removed."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder = folder
        self._mine = folder / f"samples-{rank}.jsonl"
        _drop_cut_line(self._mine)
        self._stream = self._mine.open("a", encoding="utf-8")

    def append(self, problem: str, rows: list[Row]) -> None:
        """Write a problem's samples; from then on they survive a kill of this process."""
        self._stream.write(json_line({"problem": problem, "rows": rows}))
        self._stream.flush()

    def read(self) -> dict[str, list[Row]]:
        """The samples of every problem that any process wrote, by its id."""
        found: dict[str, list[Row]] = {}
        for path in sorted(self.folder.glob("samples-*.jsonl")):
            for line in path.read_bytes().splitlines(keepends=True):
                if line.endswith(b"\n"):  # another process may be writing its last one
                    entry = json.loads(line)
                    found[entry["problem"]] = entry["rows"]
        return found

    def close(self) -> None:
        """Flush to the disk itself."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()


def _drop_cut_line(path: Path) -> None:
    if not path.is_file():
        return
    content = path.read_bytes()
    if not content.endswith(b"\n"):
        write_bytes(path, content[: content.rfind(b"\n") + 1])

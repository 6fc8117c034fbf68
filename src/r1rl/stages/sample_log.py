"""Samples on disk while they are drawn, so that a run that is killed goes on where it was."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from r1rl.files import finite, write_bytes
from r1rl.types import ScoredGroup


class SampleLog:
    """One line a problem with all its samples, one file a process; a line cut off by a kill is taken out."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder = folder
        self._mine = folder / f"samples-{rank}.jsonl"
        _mend(self._mine)
        self._stream = self._mine.open("a", encoding="utf-8")

    def append(self, problem: str, rows: list[dict[str, Any]]) -> None:
        """Write a problem's samples; they survive the end of this process from now on."""
        self._stream.write(json.dumps(finite({"problem": problem, "rows": rows}), allow_nan=False) + "\n")
        self._stream.flush()

    def read(self) -> dict[str, list[dict[str, Any]]]:
        """The samples of every problem that any process wrote, by its id."""
        found: dict[str, list[dict[str, Any]]] = {}
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


def rows_of(scored: ScoredGroup) -> list[dict[str, Any]]:
    """A problem's samples as plain rows: the text, each reward's verdict, and where they came from."""
    problem = scored.group.problem
    question = problem.columns.get("question", problem.prompt)
    rest = {name: value for name, value in problem.columns.items() if name not in ("question", "answer")}
    return [
        {
            "id": f"{problem.id}-{index}",
            "problem": problem.id,
            "source": problem.source,
            "question": question,
            "answer": problem.columns.get("answer"),
            "response": problem.prefill + completion.text,
            "prompt": problem.prompt,
            "columns": rest,
            "sample": index,
            "tokens": len(completion),
            "finish": completion.finish,
            "reward": _number(scored.rewards[index]),
            "rewards": {name: _number(values[index]) for name, values in scored.by_reward.items()},
        }
        for index, completion in enumerate(scored.group.completions)
    ]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _mend(path: Path) -> None:
    if not path.is_file():
        return
    content = path.read_bytes()
    if not content.endswith(b"\n"):
        write_bytes(path, content[: content.rfind(b"\n") + 1])

"""Grades a file of completions whose programs are run on the tests in their rows, as the code reward would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from r1rl.files import json_line
from r1rl.programs.grader import Grade
from r1rl.records import logged_columns
from r1rl.scoring.grading import Grades, batches
from r1rl.scoring.load import REWARDS, bind
from r1rl.scoring.samples import count_lines, field, read_rows, text_of, whole_file
from r1rl.tracking.console import Console

_BATCH = 64


def grade_programs(
    path: Path, completion: str, args: Mapping[str, Any], out: Path | None, console: Console, overwrite: bool = False
) -> Grades:
    """Grade every row; with ``out`` write the rows with ``verdict``, ``passed``, ``total`` and ``detail`` added.

    Args:
        completion: the field with the text. The columns with tests are those that docs/code.md lists.
        args: of the code reward.

    Raises:
        DataError: a missing file or field, or a line that is not a JSON object.
        RewardError: rows without a column of tests, or args that the reward does not take.
        SandboxError: programs cannot be run here.
        ForeignError: ``out`` exists, and not ``overwrite``.
    """
    total, started = count_lines(path), time.monotonic()
    grades = Grades(right="passed")
    with (
        closing(bind("code", REWARDS.load("code"), args)) as code,
        whole_file(out, overwrite) if out else nullcontext() as file,
        console.progress(f"grading {path.name}", total=total, unit="row") as progress,
        asyncio.Runner() as loop,
    ):
        for rows in batches(read_rows(path), _BATCH):
            texts = [text_of(field(path, row, completion, number)) for number, row in enumerate(rows, grades.total + 1)]
            outcomes = loop.run(code.outcomes(texts, [dict(logged_columns(row)) for row in rows]))
            for row, outcome in zip(rows, outcomes, strict=True):
                verdict = outcome.name if outcome else "no_tests"
                grades.outcomes[verdict] += 1
                if file is not None:
                    file.write(json_line({**row, "verdict": verdict, **_counts(outcome or Grade(verdict))}))
            progress.update(grades.total, accuracy=round(grades.accuracy, 4))
    grades.seconds = time.monotonic() - started
    return grades


def _counts(outcome: Grade) -> dict[str, Any]:
    return {"passed": outcome.passed, "total": outcome.total, "detail": outcome.detail}

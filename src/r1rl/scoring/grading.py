"""Grades a file of completions against their gold answers, as the accuracy reward would."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from r1rl.files import json_line
from r1rl.records import Row
from r1rl.scoring.samples import count_lines, read_rows, text_of, whole_file
from r1rl.scoring.samples import field as field_of
from r1rl.tracking.console import Console
from r1rl.verify import Checker, Outcome, Verdict, extract_answer, gold_answer

T = TypeVar("T")
_BATCH = 256
NO_ANSWER = Verdict(Outcome.UNPARSABLE, "no answer")
NO_GOLD = Verdict(Outcome.UNPARSABLE, "gold")


@dataclass(slots=True)
class Grades:
    """The outcome of grading a file."""

    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    right: str = Outcome.CORRECT
    """The outcome that counts as correct."""

    @property
    def total(self) -> int:
        return sum(self.outcomes.values())

    @property
    def accuracy(self) -> float:
        """Share of correct completions; 0 for an empty file."""
        return self.outcomes[self.right] / self.total if self.total else 0.0


def grade_file(
    path: Path,
    gold: str,
    completion: str,
    out: Path | None,
    checker: Checker,
    console: Console,
    overwrite: bool = False,
) -> Grades:
    """Grade every row; with ``out`` write the rows with ``extracted``, ``verdict`` and ``path`` added.

    Raises:
        DataError: a missing file or field, or a line that is not a JSON object.
        ForeignError: ``out`` exists, and not ``overwrite``.
    """
    grades, started = Grades(), time.monotonic()
    total = count_lines(path)
    with (
        whole_file(out, overwrite) if out else nullcontext() as file,
        console.progress(f"grading {path.name}", total=total, unit="row") as progress,
    ):
        for batch in batches(_with_fields(path, gold, completion)):
            for row in grade_rows(batch, checker):
                grades.outcomes[row["verdict"]] += 1
                if file is not None:
                    file.write(json_line(row))
            progress.update(grades.total, accuracy=round(grades.accuracy, 4))
    grades.seconds = time.monotonic() - started
    return grades


def grade_rows(rows: list[tuple[Row, Any, str]], checker: Checker) -> Iterator[Row]:
    """(row, gold, completion) triples as rows with ``extracted``, ``verdict`` and ``path``."""
    extracted = [extract_answer(text) for _, _, text in rows]
    forms = [_forms(gold) for _, gold, _ in rows]
    pairs = [(gold, answer or "") for gold, answer in zip(forms, extracted, strict=True)]
    for (row, _, _), gold, answer, verdict in zip(rows, forms, extracted, checker.equivalent_many(pairs), strict=True):
        if answer is None:
            verdict = NO_ANSWER if gold else NO_GOLD
        yield {**row, "extracted": answer, "verdict": str(verdict.outcome), "path": verdict.path}


def _forms(gold: Any) -> list[str]:
    """The accepted forms of a gold answer; a worked solution is reduced to its answer."""
    forms = [str(form) for form in (gold if isinstance(gold, list) else [gold]) if _is_gold(form)]
    return [gold_answer(form) for form in forms]


def _is_gold(form: Any) -> bool:
    return form is not None and form == form and str(form).strip() != ""


def _with_fields(path: Path, gold: str, completion: str) -> Iterator[tuple[Row, Any, str]]:
    for number, row in enumerate(read_rows(path), 1):
        yield row, field_of(path, row, gold, number), text_of(field_of(path, row, completion, number))


def batches(rows: Iterable[T], size: int = _BATCH) -> Iterator[list[T]]:
    """The rows in order, ``size`` at a time."""
    iterator = iter(rows)
    while batch := list(itertools.islice(iterator, size)):
        yield batch

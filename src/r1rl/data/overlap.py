"""Keeps evaluation questions out of training: sets of problems that are proven disjoint."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Literal

from r1rl.config import DataConfig, DatasetConfig, PromptConfig
from r1rl.data.problems import ProblemSets, Source, normalized
from r1rl.data.sources import read_rows
from r1rl.errors import DataError
from r1rl.types import Problem

log = logging.getLogger(__name__)


def normalized_question(problem: Problem) -> str:
    """The question without its template: normalised to NFC, case-folded, whitespace collapsed."""
    return normalized(problem.columns.get("question", problem.prompt))


def read_questions(sources: Mapping[str, DatasetConfig]) -> dict[str, str]:
    """The normalised questions of all sources, each with the name of its source; needs no tokenizer.

    Raises DataError for what ``read_rows`` cannot read and a missing column.
    """
    found: dict[str, str] = {}
    for name, config in sources.items():
        source = Source(name, config.model_copy(update={"answer": None, "answer_pattern": None}), PromptConfig())
        found |= dict.fromkeys(source.questions(read_rows(config)), name)
    return found


def never_evaluated(train: ProblemSets, data: DataConfig) -> ProblemSets:
    """The training problems without the questions of ``data.eval`` and ``data.held_out``, by :func:`ensure_disjoint`;
    for stages that do not evaluate."""
    return ensure_disjoint(
        train, ProblemSets(), data.on_overlap, read_questions(data.eval) | read_questions(data.held_out)
    )


def ensure_disjoint(
    train: ProblemSets,
    held_out: ProblemSets,
    on_overlap: Literal["error", "drop"],
    also: Mapping[str, str] | None = None,
) -> ProblemSets:
    """The training problems without the questions in ``held_out`` (equal once normalised) and in ``also``, which maps
    normalised questions to the names of their sources.

    With ``drop`` the shared ones are removed from training and counted as ``overlap``; with ``error`` they raise a
    DataError with their number and an example. Only identical questions are found, not paraphrases.
    """
    evaluated = {**(also or {}), **{normalized_question(problem): problem.source for problem in held_out.problems}}
    kept = ProblemSets(skipped={name: Counter(reasons) for name, reasons in train.skipped.items()})
    shared: list[Problem] = []
    for name, problems in train.by_source.items():
        overlap = [problem for problem in problems if normalized_question(problem) in evaluated]
        dropped = {problem.id for problem in overlap}
        kept.by_source[name] = [problem for problem in problems if problem.id not in dropped]
        shared += overlap
        if overlap:
            kept.skipped.setdefault(name, Counter())["overlap"] += len(overlap)
    if not shared:
        return kept
    counted = f"{len(shared)} of {len(train)} training questions are also evaluation questions"
    if on_overlap == "error":
        question = normalized_question(shared[0])
        raise DataError(
            f"{counted}, for example {question[:80]!r} ({shared[0].source} and {evaluated[question]}); "
            "change the splits, or set data.on_overlap: drop"
        )
    log.warning("%s; dropped from training", counted)
    empty = [name for name, problems in kept.by_source.items() if not problems]
    if empty:
        raise DataError(f"data source {empty[0]} has only evaluation questions; choose another split to train on")
    return kept

"""Tries reward functions on a file of completions, exactly as a training run would call them."""

from __future__ import annotations

import itertools
import json
import operator
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from r1rl.config.rewards import RewardConfig, ScoringConfig
from r1rl.records import Row, logged_columns, logged_text
from r1rl.scoring.metrics import reward_metrics
from r1rl.scoring.samples import count_lines, field, read_rows, text_of
from r1rl.scoring.scorer import Scorer
from r1rl.types import Completion, Group, Problem, ScoredGroup

_OWN_FIELDS = ("completion_ids", "prefill")


def try_rewards(
    path: Path, rewards: Mapping[str, RewardConfig], completion: str, prompt: str, limit: int | None
) -> tuple[list[ScoredGroup], dict[str, float]]:
    """Score the file's completions; consecutive rows with the same prompt and columns are one group.

    A row without a prompt is a group of its own.

    The lines of a run's samples.jsonl are scored as in the run, but individually, without the rest of their group. For
    rows without ``completion_ids`` the number of tokens is ``length``, or the number of words.
    Raises: DataError for the file, RewardError for the functions.
    """
    count_lines(path)
    with Scorer(rewards, ScoringConfig()) as scorer:
        rows = list(itertools.islice(read_rows(path), limit))
        groups = list(_groups(path, rows, completion, prompt))
        scored = scorer.score(groups)
        return scored, reward_metrics(scored) | scorer.drain_metrics()


def _groups(path: Path, rows: list[Row], completion: str, prompt: str) -> Iterator[Group]:
    problems = [_problem(path, row, completion, prompt, number) for number, row in enumerate(rows, 1)]
    keys = [_key(prompt in row, problem) for row, problem in zip(rows, problems, strict=True)]
    completions = [_completion(path, row, completion, number) for number, row in enumerate(rows, 1)]
    members = zip(keys, problems, completions, strict=True)
    for _, same in itertools.groupby(members, key=operator.itemgetter(0)):
        _, (first, *_), sampled = zip(*same, strict=True)
        yield Group(first, list(sampled))


def _problem(path: Path, row: Row, completion: str, prompt: str, number: int) -> Problem:
    columns = logged_columns(row)
    if columns is not row.get("columns"):
        columns = {name: value for name, value in columns.items() if name not in (completion, prompt, *_OWN_FIELDS)}
    prefill = str(row.get("prefill", ""))
    return Problem(str(number), (), row.get(prompt, ""), columns, source=path.name, prefill=prefill)


def _key(asked: bool, problem: Problem) -> str:
    """A key for completions of the same problem: everything a reward function is given except the completion. A row
    without a prompt is never grouped with its neighbours."""
    same = [problem.prompt, problem.prefill, dict(problem.columns)]
    return json.dumps(same, sort_keys=True) if asked else problem.id


def _completion(path: Path, row: Row, name: str, number: int) -> Completion:
    text = logged_text(row, text_of(field(path, row, name, number)))
    length = row.get("length")
    count = length if isinstance(length, int) and not isinstance(length, bool) else len(text.split())
    ids = np.asarray(row.get("completion_ids") or range(count), dtype=np.int64)
    return Completion(ids, np.zeros(len(ids), dtype=np.float32), text, "stop")

"""Tries reward functions on a file of completions, exactly as a training run would call them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from r1rl.config.rewards import RewardConfig, ScoringConfig
from r1rl.scoring.metrics import reward_metrics
from r1rl.scoring.samples import Row, count_lines, dataset_columns, field, read_rows, text_of
from r1rl.scoring.scorer import Scorer
from r1rl.types import Completion, Group, Problem, ScoredGroup

_OWN_FIELDS = ("completion_ids", "prefill")


def try_rewards(
    path: Path, rewards: Mapping[str, RewardConfig], completion: str, prompt: str, limit: int | None
) -> tuple[list[ScoredGroup], dict[str, float]]:
    """Score the file's completions; consecutive rows with the same prompt are one group.

    The lines of a run's samples.jsonl are scored as they were in the run, but one by one: without the rest of their
    group. Rows without ``completion_ids`` have as many tokens as ``length`` says, or as they have words.
    Raises: DataError for the file, RewardError for the functions.
    """
    count_lines(path)
    with Scorer(rewards, ScoringConfig()) as scorer:
        rows = list(itertools.islice(read_rows(path), limit))
        groups = list(_groups(path, rows, completion, prompt))
        scored = scorer.score(groups)
        return scored, reward_metrics(scored) | scorer.drain_metrics()


def _groups(path: Path, rows: list[Row], completion: str, prompt: str) -> Iterator[Group]:
    numbered = list(enumerate(rows, 1))
    for _, same in itertools.groupby(numbered, key=lambda item: json.dumps(item[1].get(prompt), sort_keys=True)):
        members = list(same)
        row = members[0][1]
        columns = dataset_columns(row)
        if columns is not row.get("columns"):
            columns = {name: value for name, value in columns.items() if name not in (completion, prompt, *_OWN_FIELDS)}
        problem = Problem(
            str(members[0][0]), (), row.get(prompt, ""), columns, source=path.name, prefill=str(row.get("prefill", ""))
        )
        yield Group(problem, [_completion(path, other, completion, number) for number, other in members])


def _completion(path: Path, row: Row, name: str, number: int) -> Completion:
    text = text_of(field(path, row, name, number))
    if "problem_id" in row and isinstance(row.get("prefill"), str):
        text = text.removeprefix(row["prefill"])  # in the run it was not the function's to see
    length = row.get("length")
    count = length if isinstance(length, int) and not isinstance(length, bool) else len(text.split())
    ids = np.asarray(row.get("completion_ids") or range(count), dtype=np.int64)
    return Completion(ids, np.zeros(len(ids), dtype=np.float32), text, "stop")

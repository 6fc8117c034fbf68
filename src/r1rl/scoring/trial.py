"""Tries reward functions on a file of completions, exactly as a training run would call them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from r1rl.config.rewards import RewardConfig, ScoringConfig
from r1rl.scoring.metrics import reward_metrics
from r1rl.scoring.samples import Row, count_lines, field, read_rows, text_of
from r1rl.scoring.scorer import Scorer
from r1rl.types import Completion, Group, Problem, ScoredGroup

_OWN_FIELDS = ("completion_ids", "prefill")


def try_rewards(
    path: Path, rewards: Mapping[str, RewardConfig], completion: str, prompt: str, limit: int | None
) -> tuple[list[ScoredGroup], dict[str, float]]:
    """Score the file's completions; consecutive rows with the same prompt are one group.

    Rows without ``completion_ids`` count words instead of tokens.
    Raises: DataError for the file, RewardError for the functions.
    """
    count_lines(path)
    with Scorer(rewards, ScoringConfig()) as scorer:
        rows = list(itertools.islice(read_rows(path), limit))
        groups = list(_groups(path, rows, completion, prompt))
        scored = scorer.score(groups, {"global_step": 0})
        return scored, reward_metrics(scored) | scorer.drain_metrics()


def _groups(path: Path, rows: list[Row], completion: str, prompt: str) -> Iterator[Group]:
    numbered = list(enumerate(rows, 1))
    for _, same in itertools.groupby(numbered, key=lambda item: json.dumps(item[1].get(prompt), sort_keys=True)):
        members = list(same)
        row = members[0][1]
        columns = {name: value for name, value in row.items() if name not in (completion, prompt, *_OWN_FIELDS)}
        problem = Problem(
            str(members[0][0]), (), row.get(prompt, ""), columns, source=path.name, prefill=str(row.get("prefill", ""))
        )
        yield Group(problem, [_completion(path, other, completion, number) for number, other in members])


def _completion(path: Path, row: Row, name: str, number: int) -> Completion:
    text = text_of(field(path, row, name, number))
    ids = np.asarray(row.get("completion_ids") or range(len(text.split())), dtype=np.int64)
    return Completion(ids, np.zeros(len(ids), dtype=np.float32), text, "stop")

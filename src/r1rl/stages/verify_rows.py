"""Score rows of a rejection-sampling output again, with the same reward functions as the samples themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from r1rl.files import finite
from r1rl.scoring import Scorer
from r1rl.types import Completion, Group, Problem


def verdicts(
    rows: Sequence[dict[str, Any]], completion_ids: Sequence[Sequence[int]], scorer: Scorer
) -> list[dict[str, Any]]:
    """``reward`` and ``rewards`` of every row, whose response is these tokens; None where none applies."""
    groups = [_group(row, ids) for row, ids in zip(rows, completion_ids, strict=True)]
    for group in groups:
        scorer.submit(group)
    return [
        finite({"reward": scored.rewards[0], "rewards": {name: v[0] for name, v in scored.by_reward.items()}})
        for scored in scorer.score(groups)
    ]


def _group(row: dict[str, Any], completion_ids: Sequence[int]) -> Group:
    columns = {**row["columns"], "question": row["question"]}
    if row["answer"] is not None:
        columns["answer"] = row["answer"]
    problem = Problem(row["problem"], (), row["prompt"], columns, row["source"])
    ids = np.asarray(completion_ids, dtype=np.int64)
    completion = Completion(ids, np.zeros(len(ids), dtype=np.float32), row["response"], row["finish"])
    return Group(problem, [completion])

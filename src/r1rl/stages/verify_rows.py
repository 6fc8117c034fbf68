"""Score rows of a rejection-sampling output again, with the same reward functions as the samples themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from r1rl.scoring import Scorer
from r1rl.types import Completion, Group, Problem


def verdicts(rows: Sequence[dict[str, Any]], scorer: Scorer) -> list[dict[str, float | None]]:
    """Each reward's value for every row, by name; None where it does not apply."""
    groups = [_group(row) for row in rows]
    for group in groups:
        scorer.submit(group)
    return [
        {name: None if math.isnan(values[0]) else float(values[0]) for name, values in scored.by_reward.items()}
        for scored in scorer.score(groups)
    ]


def _group(row: dict[str, Any]) -> Group:
    columns = {**row["columns"], "question": row["question"]}
    if row["answer"] is not None:
        columns["answer"] = row["answer"]
    problem = Problem(row["problem"], (), row["prompt"], columns, row["source"])
    nothing = np.zeros(0)
    completion = Completion(nothing.astype(np.int64), nothing.astype(np.float32), row["response"], row["finish"])
    return Group(problem, [completion])

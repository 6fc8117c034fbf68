"""A scored completion as a JSON row: a line of samples.jsonl, of a sample stage's data, an example of an evaluation.

Each kind of row is a choice of the fields of :func:`fields`, under the names that its file has for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from r1rl.files import finite
from r1rl.types import Completion, Group, Problem, ScoredGroup

Row = dict[str, Any]
"""One row: a JSON object."""
Rows = Sequence[Mapping[str, Any]]
"""Rows that are only read."""

_REWARD, _EXTRA = "reward_", "extra_"
_LOGGED = {
    "problem_id": "problem",
    "prompt": "prompt",
    "prefill": "prefill",
    "completion": "text",
    "answer": "answer",
    "reward": "reward",
    "length": "tokens",
    "finish": "finish",
}
_SAMPLED = {
    "id": "id",
    "problem": "problem",
    "source": "source",
    "question": "question",
    "answer": "answer",
    "response": "text",
    "prompt": "prompt",
    "columns": "other_columns",
    "sample": "index",
    "tokens": "tokens",
    "finish": "finish",
    "reward": "reward",
    "rewards": "rewards",
}
_SHOWN = {"question": "question", "answer": "answer", "completion": "text", "reward": "reward"}
_SCORES = {"reward": "reward", "rewards": "rewards"}


def logged_row(scored: ScoredGroup, index: int) -> Row:
    """Completion ``index`` as a row of samples.jsonl, without ``step``.

    Each reward is under ``reward_NAME`` (None where it did not apply), values passed to ``log_extra`` under
    ``extra_NAME``. The dataset's columns are nested under ``columns``, so that their names cannot collide.
    """
    found = fields(scored, index)
    return {
        **_named(found, _LOGGED),
        **{f"{_REWARD}{name}": value for name, value in found["rewards"].items()},
        **{f"{_EXTRA}{name}": value for name, value in found["extras"].items()},
        "columns": found["columns"],
    }


def sampled_rows(scored: ScoredGroup) -> list[Row]:
    """A problem's completions as rows of training data; the inverse for one row is :func:`sampled_group`."""
    return [_named(fields(scored, index), _SAMPLED) for index in range(len(scored.group))]


def shown_row(scored: ScoredGroup) -> Row:
    """The first completion as an example in evaluation.json."""
    return _named(fields(scored, 0), _SHOWN)


def score_row(scored: ScoredGroup) -> Row:
    """The total and the individual rewards of the first completion, as in :func:`sampled_rows`."""
    return _named(fields(scored, 0), _SCORES)


def fields(scored: ScoredGroup, index: int) -> Row:
    """All fields of completion ``index``, valid in strict JSON: a reward that did not apply is None.

    ``text`` begins with the prompt template's prefill; ``other_columns`` are the dataset's columns except the question
    and its answer.
    """
    problem, completion = scored.group.problem, scored.group.completions[index]
    columns = dict(problem.columns)
    found = {
        "id": f"{problem.id}-{index}",
        "problem": problem.id,
        "source": problem.source,
        "prompt": problem.prompt,
        "prefill": problem.prefill,
        "question": columns.get("question", problem.prompt),
        "answer": columns.get("answer"),
        "columns": columns,
        "other_columns": {name: value for name, value in columns.items() if name not in ("question", "answer")},
        "index": index,
        "text": problem.prefill + completion.text,
        "tokens": len(completion),
        "finish": completion.finish,
        "reward": scored.rewards[index],
        "rewards": {name: values[index] for name, values in scored.by_reward.items()},
        "extras": {name: values[index] for name, values in scored.extras.items()},
    }
    return {name: finite(value) for name, value in found.items()}


def sampled_group(row: Row, completion_ids: Sequence[int]) -> Group:
    """The group of the one completion in a row of :func:`sampled_rows`, given its token ids; it needs no prompt ids."""
    columns = {**row["columns"], "question": row["question"]}
    if row["answer"] is not None:
        columns["answer"] = row["answer"]
    problem = Problem(row["problem"], (), row["prompt"], columns, row["source"])
    ids = np.asarray(completion_ids, dtype=np.int64)
    completion = Completion(ids, np.zeros(len(ids), dtype=np.float32), row["response"], row["finish"])
    return Group(problem, [completion])


def is_logged(row: Row) -> bool:
    """Whether a row looks like a line of samples.jsonl rather than a row of a dataset."""
    return "problem_id" in row


def logged_columns(row: Row) -> Row:
    """The dataset's columns of a line of samples.jsonl; of any other row, its fields and those under ``columns``."""
    nested = row.get("columns")
    if not isinstance(nested, dict):
        return row
    return nested if is_logged(row) else {name: value for name, value in row.items() if name != "columns"} | nested


def logged_text(row: Row, text: str) -> str:
    """The part of ``text`` that the policy wrote: a line of samples.jsonl begins with the template's prefill."""
    return text.removeprefix(row["prefill"]) if is_logged(row) and isinstance(row.get("prefill"), str) else text


def logged_rewards(row: Mapping[str, Any]) -> dict[str, Any]:
    """Each reward of a line of samples.jsonl by its name."""
    return {name.removeprefix(_REWARD): value for name, value in row.items() if name.startswith(_REWARD)}


def _named(found: Row, names: Mapping[str, str]) -> Row:
    return {name: found[field] for name, field in names.items()}

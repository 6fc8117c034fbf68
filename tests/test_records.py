"""A scored completion as a row, and a row as what a reward function is given."""

from __future__ import annotations

import json
import math

import numpy as np

from r1rl.records import (
    logged_columns,
    logged_rewards,
    logged_row,
    logged_text,
    sampled_group,
    sampled_rows,
    score_row,
    shown_row,
)
from r1rl.types import Completion, Group, Problem, ScoredGroup

COLUMNS = {"question": "2 + 2?", "answer": "4", "level": 1, "odds": math.inf}


def scored() -> ScoredGroup:
    problem = Problem("sums-1", (5, 6), "Q: 2 + 2?", COLUMNS, "sums", prefill="<think>")
    completions = [Completion(np.arange(n), np.zeros(n, np.float32), f"{n}", "stop") for n in (3, 4)]
    by_reward = {"accuracy": np.array([0.0, 1.0]), "judge": np.array([math.nan, 0.5])}
    return ScoredGroup(Group(problem, completions), np.array([math.nan, 1.5]), by_reward, {"note": ["a", {"b"}]})


def test_a_line_of_the_log() -> None:
    assert logged_row(scored(), 1) == {
        "problem_id": "sums-1",
        "prompt": "Q: 2 + 2?",
        "prefill": "<think>",
        "completion": "<think>4",
        "answer": "4",
        "reward": 1.5,
        "length": 4,
        "finish": "stop",
        "reward_accuracy": 1.0,
        "reward_judge": 0.5,
        "extra_note": ["b"],
        "columns": {**COLUMNS, "odds": None},
    }


def test_rows_are_strict_json() -> None:
    group = scored()
    for row in [logged_row(group, 0), shown_row(group), *sampled_rows(group)]:
        assert json.loads(json.dumps(row, allow_nan=False)) == row
        assert row["reward"] in (None, 1.5)


def test_a_log_gives_back_what_the_functions_were_given() -> None:
    row = logged_row(scored(), 0)
    assert logged_columns(row) == row["columns"]
    assert logged_text(row, row["completion"]) == "3"
    assert logged_rewards(row) == {"accuracy": 0.0, "judge": None}


def test_somebodys_row_keeps_its_fields() -> None:
    row = {"prompt": "2 + 2?", "prefill": "4", "columns": {"answer": "4"}}
    assert logged_columns(row) == {"prompt": "2 + 2?", "prefill": "4", "answer": "4"}
    assert logged_text(row, "4") == "4"


def test_a_sample_is_read_back_as_a_group() -> None:
    group = scored()
    for index, row in enumerate(sampled_rows(group)):
        again = sampled_group(row, group.group.completions[index].token_ids.tolist())
        assert again.problem.columns == {**COLUMNS, "odds": None}
        assert (again.problem.id, again.problem.source, again.problem.prompt) == ("sums-1", "sums", "Q: 2 + 2?")
        assert again.completions[0].text == f"<think>{index + 3}"
        assert len(again.completions[0]) == row["tokens"]


def test_scores_are_written_once() -> None:
    first = sampled_rows(scored())[0]
    assert score_row(scored()) == {"reward": None, "rewards": {"accuracy": 0.0, "judge": None}}
    assert score_row(scored()) == {name: first[name] for name in ("reward", "rewards")}

"""The order of the filters, and what their table says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from r1rl.config import DatasetConfig, SampleConfig
from r1rl.data.rejection import Sieve, mixed_rows
from r1rl.errors import DataError
from r1rl.records import Row


def row(problem: str, response: str = " <think>a b</think> 4", source: str = "s", **rewards: float | None) -> Row:
    return {
        "id": problem,
        "problem": problem,
        "source": source,
        "question": f"question of {problem}",
        "response": response,
        "finish": "stop",
        "tokens": 9,
        "rewards": rewards,
    }


def test_verify_names_the_reward_that_failed() -> None:
    sieve = Sieve([row("a", accuracy=1.0), row("b", accuracy=0.0), row("c", safe=-1.0), row("d", format=1.0)])
    sieve.verify({"accuracy": 0.5, "safe": 0.0})
    assert [r["problem"] for r in sieve.rows] == ["a"]
    assert {r["problem"]: r["dropped"] for r in sieve.dropped} == {"b": "accuracy", "c": "safe", "d": "unverified"}


def test_the_table_adds_up() -> None:
    rows = [
        row("a", accuracy=1.0),
        row("a", accuracy=1.0),
        row("b", "no thought", accuracy=1.0),
        row("c", accuracy=0.0),
    ]
    sieve = Sieve(rows)
    sieve.verify({"accuracy": 0.5})
    sieve.apply_rules(SampleConfig(), lambda text, target: 1.0)
    sieve.deduplicate()
    sieve.decontaminate(["question of z"], 10)
    assert sieve.table == [("accuracy", 1, 3), ("thought", 1, 2), ("double", 1, 1), ("contaminated", 0, 1)]
    assert len(sieve.rows) + len(sieve.dropped) == len(rows)


def test_planted_contamination_is_removed() -> None:
    sieve = Sieve([row("a"), row("b", " <think>question of z</think> 4"), row("z")])
    sieve.decontaminate(["Question  of Z"], 10)
    assert [r["problem"] for r in sieve.rows] == ["a"]


def test_balance_keeps_the_shortest_and_one_of_every_problem_first() -> None:
    rows = [row("a", "long " * n) for n in (3, 1, 2)] + [row("b", "x"), row("c", "y", source="t")]
    sieve = Sieve(rows)
    sieve.balance(2, {"s": 2})
    assert [(r["problem"], len(r["response"])) for r in sieve.rows] == [("a", 5), ("b", 1), ("c", 1)]
    assert [line[0] for line in sieve.table] == ["per_problem", "limit_s"]


def test_mixed_rows(tmp_path: Path) -> None:
    file = tmp_path / "general.jsonl"
    values: list[dict[str, Any]] = [{"question": "q", "response": "r"}, {"question": "q", "response": ""}]
    file.write_text("".join(json.dumps(value) + "\n" for value in values))
    settings = SampleConfig(mix={"general": DatasetConfig(path=str(file))})
    with pytest.raises(DataError, match="row 2"):
        mixed_rows(settings)
    settings.mix["general"].on_bad_row = "skip"
    assert [r["response"] for r in mixed_rows(settings)] == ["r"]


def test_mixed_conversations(tmp_path: Path) -> None:
    asked = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    said = [{"role": "assistant", "content": "r"}]
    values = [{"messages": asked + said}, {"messages": asked, "response": said}, {"messages": asked, "response": "r"}]
    (tmp_path / "talk.jsonl").write_text("".join(json.dumps(value) + "\n" for value in values))
    (tmp_path / "table.csv").write_text("topic,response\nsums,r\n")
    mix = {
        "talk": DatasetConfig(path=str(tmp_path / "talk.jsonl"), question="messages"),
        "table": DatasetConfig(path=str(tmp_path / "table.csv"), question_from="About {topic}"),
    }
    rows = mixed_rows(SampleConfig(mix=mix))
    assert [(r["question"], r["response"]) for r in rows] == [(asked, "r")] * 3 + [("About sums", "r")]
    sieve = Sieve(rows)
    sieve.deduplicate()
    assert [r["id"] for r in sieve.rows] == ["talk-1", "table-1"]
    sieve.decontaminate(["Q"], 10)
    assert [r["id"] for r in sieve.rows] == ["table-1"]

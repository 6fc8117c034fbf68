from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import pytest

from r1rl.config.data import DatasetConfig
from r1rl.data.countdown import countdown
from r1rl.data.sources import load_rows
from r1rl.errors import DataError


def reachable(values: list[Fraction]) -> set[Fraction]:
    """Every value that uses all the numbers, by trying everything."""
    if len(values) == 1:
        return {values[0]}
    found = set()
    for i, j in combinations(range(len(values)), 2):
        a, b = values[i], values[j]
        rest = [v for k, v in enumerate(values) if k not in (i, j)]
        results = {a + b, a - b, b - a, a * b} | ({a / b} if b else set()) | ({b / a} if a else set())
        for result in results:
            found |= reachable([*rest, result])
    return found


def key(row):
    return (*sorted(row["nums"]), row["target"])


def test_every_problem_can_be_solved():
    rows = countdown(size=30, seed=3, largest=20)
    assert {len(row["nums"]) for row in rows} == {3, 4}
    for row in rows:
        assert Fraction(row["target"]) in reachable([Fraction(n) for n in row["nums"]])
        assert str(row["nums"]) in row["question"]
        assert f"make {row['target']}." in row["question"]


def test_same_arguments_same_problems_all_different():
    rows = load_rows(DatasetConfig(path="generated:countdown", args={"size": 300, "seed": 5}))
    assert rows == countdown(size=300, seed=5) != countdown(size=300, seed=6)
    assert len({key(row) for row in rows}) == 300


def test_the_test_split_is_kept_apart_whatever_the_seeds():
    bounds = {"largest": 6, "target_max": 20, "numbers": [3]}
    train = {key(row) for seed in range(3) for row in countdown(size=150, seed=seed, **bounds)}
    test = {key(row) for seed in range(3) for row in countdown(size=20, seed=seed, split="test", **bounds)}
    assert not train & test


def test_errors_say_what_to_change():
    with pytest.raises(DataError, match=r"found \d+ of 50 problems; lower args.size"):
        countdown(size=50, numbers=[2], largest=2)
    with pytest.raises(DataError, match=r"correct args\.split"):
        countdown(split="eval")

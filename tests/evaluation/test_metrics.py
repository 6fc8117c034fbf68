from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1rl.evaluation.metrics import majority, majority_vote, paired_bootstrap, pass_at_1, pass_at_k

tables = st.integers(1, 7).flatmap(
    lambda k: st.lists(st.lists(st.booleans(), min_size=k, max_size=k), min_size=1, max_size=6)
)


@given(tables, st.data())
def test_pass_at_k_is_the_mean_over_all_choices_of_k_samples(table, data):
    k = data.draw(st.integers(1, len(table[0])))
    brute = np.mean([np.mean([any(chosen) for chosen in combinations(row, k)]) for row in table])
    assert pass_at_k(table, k) == pytest.approx(brute, abs=1e-12)


@given(tables)
def test_pass_at_1_and_the_ends_of_pass_at_k(table):
    assert pass_at_1(table) == pytest.approx(np.mean(table))
    assert pass_at_k(table, 1) == pytest.approx(pass_at_1(table))
    assert pass_at_k(table, len(table[0])) == pytest.approx(np.mean([any(row) for row in table]))


def test_pass_at_k_of_many_samples():
    assert pass_at_k([[True] + [False] * 1023], 512) == pytest.approx(0.5)


@given(st.lists(st.sampled_from(["1", "2", "3", None]), min_size=1, max_size=9))
def test_the_most_frequent_answer_wins(answers):
    winner = majority(answers)
    voted = [a for a in answers if a is not None]
    if not voted:
        assert winner is None
    else:
        most = max(voted.count(a) for a in voted)
        assert answers[winner] == next(a for a in answers if a is not None and voted.count(a) == most)
        assert winner == answers.index(answers[winner])


def test_equal_answers_vote_together():
    answers = ["7", "7", "1/2", "0.5", r"\frac{1}{2}", None]
    assert answers[majority(answers)] == "1/2"
    assert answers[majority(answers, same=lambda a, b: a == b)] == "7"


def test_majority_vote_counts_problems():
    answers = [["4", "5", "4.0"], ["1", "2", "2"], [None, None, None], [None, "9", None]]
    correct = [[True, False, True], [True, False, False], [False, False, False], [False, True, False]]
    assert majority_vote(answers, correct) == 0.5


def test_majority_vote_survives_hostile_answers():
    answers = [["9" * 5000, "9**9**9**9**9", "(" * 3000, "7", "7"]]
    assert majority_vote(answers, [[False, False, False, True, True]]) == 1.0


def test_bootstrap_agrees_with_the_normal_interval():
    rng = np.random.default_rng(0)
    before = rng.random(400)
    after = before + rng.normal(0.1, 0.2, size=400)
    low, high = paired_bootstrap(before, after, seed=1)
    difference = after - before
    error = difference.std(ddof=1) / np.sqrt(400)
    assert (low, high) == pytest.approx((difference.mean() - 1.96 * error, difference.mean() + 1.96 * error), abs=2e-3)
    assert (low, high) == paired_bootstrap(before, after, seed=1) != paired_bootstrap(before, after, seed=2)


def test_bootstrap_is_paired_and_covers():
    noise = np.random.default_rng(0).random(50)
    assert paired_bootstrap(noise, noise + 0.25, seed=0, resamples=100) == pytest.approx((0.25, 0.25))
    rng = np.random.default_rng(2)
    covered = 0
    for trial in range(200):
        low, high = paired_bootstrap(np.zeros(60), rng.normal(0.3, 1, 60), seed=trial, resamples=400)
        covered += low <= 0.3 <= high
    assert 0.89 <= covered / 200 <= 0.99


def test_shapes_that_cannot_be():
    with pytest.raises(ValueError, match="k must be between 1 and 2"):
        pass_at_k([[True, False]], 3)
    with pytest.raises(ValueError, match=r"shape \[problems, samples\]"):
        pass_at_1([])
    with pytest.raises(ValueError, match="one for each verdict"):
        majority_vote([["1"]], [[True, False]])
    with pytest.raises(ValueError):
        paired_bootstrap([1, 2], [1, 2, 3], seed=0)


def test_samples_that_were_not_judged_are_left_out():
    nan = float("nan")
    table = [[1, nan, 0, 1], [nan, nan, nan, nan], [0, 0, nan, 0]]
    assert pass_at_1(table) == pytest.approx((2 / 3 + 0) / 2)
    assert pass_at_k(table, 2) == pytest.approx(((1 - 0) + 0) / 2)
    assert pass_at_k(table, 4) == pytest.approx(1 / 2), "by the samples there are"
    answers = [["7", "8", "8", "7"], ["1"] * 4, ["3"] * 4]
    assert majority_vote(answers, table) == 0.5
    answers = [["7", "8", "8", "9"], ["1"] * 4, ["3"] * 4]
    assert majority_vote(answers, table) == 0.5, "a sample that was not judged does not vote"


def test_nothing_judged_gives_no_figure():
    table = [[float("nan")] * 2]
    assert pass_at_1(table) is None
    assert pass_at_k(table, 2) is None
    assert majority_vote([["1", "1"]], table) is None

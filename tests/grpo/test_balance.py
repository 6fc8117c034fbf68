from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from r1rl.grpo.balance import imbalance, partition

LENGTHS = json.loads((Path(__file__).parent / "lengths.json").read_text())


@given(st.lists(st.integers(1, 5000), max_size=60), st.integers(1, 9))
def test_every_sample_goes_to_one_rank(lengths, ranks):
    parts = partition(lengths, ranks)
    assert len(parts) == ranks
    assert sorted(i for part in parts for i in part) == list(range(len(lengths)))


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=60), st.integers(1, 9))
def test_never_worse_than_the_longest_sample_above_an_even_share(lengths, ranks):
    tokens = [sum(lengths[i] for i in part) for part in partition(lengths, ranks)]
    assert max(tokens) <= sum(lengths) / ranks + max(lengths)


def naive(lengths, ranks):
    """By turns, as a sampler without balancing does."""
    return [list(range(rank, len(lengths), ranks)) for rank in range(ranks)]


def test_balanced_within_five_percent_on_a_real_skewed_distribution():
    rng = np.random.default_rng(0)
    for ranks in (2, 4, 8, 16, 32):
        balanced, by_turns = [], []
        for _ in range(20):
            lengths = rng.choice(LENGTHS, 512).tolist()
            balanced.append(imbalance(lengths, partition(lengths, ranks)))
            by_turns.append(imbalance(lengths, naive(lengths, ranks)))
        assert max(balanced) <= 1.05
        assert np.mean(by_turns) > np.mean(balanced)


def test_nothing_to_share():
    assert imbalance([], partition([], 4)) == 1.0

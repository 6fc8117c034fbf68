from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1rl.data.stream import PromptStream, interleave
from r1rl.errors import DataError
from r1rl.types import Problem


def pool(name: str, size: int) -> list[Problem]:
    return [Problem(id=f"{name}-{i}", prompt_ids=(i,), prompt=str(i), source=name) for i in range(size)]


def stream(sizes, weights=None, seed=0) -> PromptStream:
    pools = {f"s{k}": pool(f"s{k}", size) for k, size in enumerate(sizes)}
    weights = weights or [1.0] * len(sizes)
    return PromptStream(pools, dict(zip(pools, weights, strict=True)), seed)


def ids(problems) -> list[str]:
    return [problem.id for problem in problems]


weights_st = st.lists(st.floats(0.01, 10), min_size=1, max_size=5)


@given(size=st.integers(1, 40), n=st.integers(1, 17), seed=st.integers(-3, 3))
def test_every_problem_is_seen_once_an_epoch(size, n, seed):
    one = stream([size], seed=seed)
    drawn = [i for step in range(3 * size // n + 1) for i in ids(one.batch(step, n))]
    epochs = [drawn[start : start + size] for start in range(0, 3 * size, size)]
    assert all(sorted(epoch) == sorted(ids(one.pools[0])) for epoch in epochs)


@settings(max_examples=50)
@given(weights=weights_st, start=st.integers(0, 5000), n=st.integers(1, 300))
def test_any_window_of_the_mixture_is_the_same_as_from_the_start(weights, start, n):
    shares = np.array(weights) / sum(weights)
    source, ordinal = interleave(shares, start, n)
    whole_source, whole_ordinal = interleave(shares, 0, start + n)
    assert source.tolist() == whole_source[start:].tolist()
    assert ordinal.tolist() == whole_ordinal[start:].tolist()


@settings(max_examples=50)
@given(weights=weights_st, n=st.integers(1, 2000))
def test_shares_follow_weights_at_every_moment(weights, n):
    shares = np.array(weights) / sum(weights)
    source, ordinal = interleave(shares, 0, n)
    for k, share in enumerate(shares):
        assert ordinal[source == k].tolist() == list(range((source == k).sum())), "ordinals without gap or repeat"
        counts = np.cumsum(source == k)
        assert np.abs(counts - share * np.arange(1, n + 1)).max() <= 0.5 + share * len(shares) / 2 + 1e-6


@given(seed=st.integers(0, 5), step=st.integers(0, 1000), n=st.integers(1, 20))
def test_a_step_needs_no_earlier_steps(seed, step, n):
    walked = stream([7, 30], [1, 2], seed)
    for earlier in range(max(0, step - 3), step):
        walked.batch(earlier, n)
    fresh = stream([7, 30], [1, 2], seed)
    assert ids(walked.batch(step, n)) == ids(fresh.batch(step, n)) == ids(fresh.batch(step, n))


def test_seeds_and_epochs_differ():
    first = ids(stream([50]).batch(0, 50))
    assert first != ids(stream([50], seed=1).batch(0, 50))
    assert first != ids(stream([50]).batch(1, 50))
    assert first != ids(stream([50]).pools[0])


@given(n=st.integers(1, 12), rounds=st.integers(1, 3), step=st.integers(0, 20))
def test_further_draws_are_new_while_the_pool_allows(n, rounds, step):
    mixed = stream([6, 60], [1, 1])
    drawn = mixed.batch(step, n)
    for number in range(rounds):
        further = mixed.extra(step, number, n, drawn)
        assert ids(further) == ids(mixed.extra(step, number, n, list(drawn)))
        assert len(further) == n
        assert not set(ids(further)) & set(ids(drawn))
        assert len(set(ids(further))) == n
        drawn = drawn + further


def test_further_draws_repeat_only_when_nothing_is_left():
    small = stream([3, 2])
    batch = small.batch(0, 5)
    counts = Counter(ids(small.extra(0, 0, 10, batch)))
    assert sum(counts.values()) == 10
    assert set(counts) == set(ids(batch))


def test_further_draws_differ_by_round_and_step_and_follow_weights():
    two = stream([2000, 2000], [3, 1])
    assert ids(two.extra(0, 0, 20, [])) != ids(two.extra(0, 1, 20, []))
    assert ids(two.extra(0, 0, 20, [])) != ids(two.extra(1, 0, 20, []))
    share = Counter(p.source for p in two.extra(0, 0, 1000, []))["s0"] / 1000
    assert share == pytest.approx(0.75, abs=0.05)


def test_errors_say_what_to_change():
    with pytest.raises(DataError, match=r"add a source under data\.train"):
        PromptStream({}, {}, 0)
    with pytest.raises(DataError, match="s0 has no problems"):
        stream([0])
    with pytest.raises(DataError, match="weights must be positive"):
        stream([1], [-1.0])

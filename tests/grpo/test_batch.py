from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from r1rl.grpo.batch import Batch, Sample, contributes, make_batch, pack, update_size
from r1rl.types import Completion, Group, Problem, ScoredGroup


def sample(length: int, advantage: float = 1.0, keep: bool = True) -> Sample:
    return Sample(np.array([1, 2]), np.arange(length), advantage, np.zeros(length, np.float32), keep)


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(20, 120))
def test_packing_holds_every_sequence_once_within_the_budget(lengths: list[int], budget: int) -> None:
    bins = pack(lengths, budget)
    assert sorted(i for b in bins for i in b) == list(range(len(lengths)))
    for b in bins:
        assert sum(lengths[i] for i in b) <= budget or len(b) == 1


@given(st.lists(st.integers(1, 30), min_size=20, max_size=80))
def test_packing_wastes_little(lengths: list[int]) -> None:
    budget = 100
    bins = pack(lengths, budget)
    assert len(bins) <= -(-sum(lengths) // (budget - max(lengths))) + 1


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 30)), min_size=20, max_size=80))
def test_packing_keeps_groups_together_without_wasting_more(rows: list[tuple[int, int]]) -> None:
    lengths, budget = [length for _, length in rows], 100
    bins = pack(lengths, budget, [key for key, _ in rows])
    assert sorted(i for b in bins for i in b) == list(range(len(rows)))
    assert all(sum(lengths[i] for i in b) <= budget for b in bins)
    assert len(bins) <= -(-sum(lengths) // (budget - max(lengths))) + 1
    heads = [max(lengths[i] for i in b) for b in bins]
    assert heads == sorted(heads, reverse=True)


def test_packing_puts_a_group_that_fits_into_one_micro_batch() -> None:
    groups = ["a", "b", "a", "b", "a", "b"]
    bins = pack([30, 29, 28, 27, 26, 25], 90, groups)
    assert [sorted(groups[i] for i in b) for b in bins] == [["a", "a", "a"], ["b", "b", "b"]]


@given(st.integers(1, 40), st.integers(1, 7), st.integers(0, 2**31))
def test_minibatches_part_the_batch(count: int, parts: int, seed: int) -> None:
    batch = Batch([sample(i + 1) for i in range(count)])
    cut = batch.minibatches(parts, seed)
    assert sorted(len(s.completion_ids) for part in cut for s in part) == list(range(1, count + 1))
    assert max(map(len, cut)) - min(map(len, cut)) <= 1
    again = batch.minibatches(parts, seed)
    assert [[id(s) for s in part] for part in cut] == [[id(s) for s in part] for part in again]


def test_rows_left_out_still_count_in_the_size() -> None:
    size = update_size([sample(3, advantage=0.0), sample(5, keep=False), sample(2)])
    assert (size.sequences, size.tokens, size.kept_tokens) == (3, 10, 5)


def test_what_has_no_gradient_is_not_forwarded() -> None:
    assert not contributes(sample(3, advantage=0.0), beta=0.0)
    assert contributes(sample(3, advantage=0.0), beta=0.1)
    assert not contributes(sample(3, keep=False), beta=0.1)


def test_unscored_completions_are_left_out_whole() -> None:
    completions = [Completion(np.arange(n), np.zeros(n, np.float32), "", "stop") for n in (3, 5, 2, 4)]
    group = Group(Problem("p", (1, 2), ""), completions)
    batch = make_batch([ScoredGroup(group, np.array([1.0, np.nan, 0.0, 1.0]), {})], "group", False)
    assert [len(s.completion_ids) for s in batch.samples] == [3, 2, 4]
    assert all(np.isfinite(s.advantage) and s.advantage for s in batch.samples)
    assert update_size(batch.samples).sequences == 3, "nor do they count in the denominator"
    silent = make_batch([ScoredGroup(group, np.full(4, np.nan), {})], "group", False)
    assert silent.samples == []

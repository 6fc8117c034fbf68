"""Figures of an evaluation: pass@1, pass@k, majority vote, and how sure a difference is. N problems, K samples each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

from r1rl.verify import equivalent

Same = Callable[[str, str], object]
"""Whether two answers are the same answer: true or false, by truth value."""


def pass_at_1(correct_NK: ArrayLike) -> float:
    """Mean over problems of the share of correct samples, 0..1 (DeepSeek-R1, arXiv 2501.12948, section 3)."""
    return float(_table(correct_NK).mean())


def pass_at_k(correct_NK: ArrayLike, k: int) -> float:
    """Chance, 0..1, that at least one of ``k`` samples is correct: 1 − C(K−c, k) / C(K, k), averaged over problems.

    Unbiased for k ≤ K (Chen et al. 2021, arXiv 2107.03374, equation 1). Raises ValueError for k outside 1..K.
    """
    table = _table(correct_NK)
    samples = table.shape[1]
    if not 1 <= k <= samples:
        raise ValueError(f"pass@{k} cannot be told from {samples} samples a problem; k must be between 1 and {samples}")
    miss_c = np.array([comb(samples - c, k) / comb(samples, k) for c in range(samples + 1)])
    return float(1 - miss_c[table.sum(axis=1)].mean())


def majority_vote(answers_NK: Sequence[Sequence[str | None]], correct_NK: ArrayLike, same: Same = equivalent) -> float:
    """Share of problems, 0..1, whose most frequent answer is correct (cons@K of arXiv 2501.12948).

    ``answers_NK`` are extracted answers, None where a sample has none; those do not vote, and a problem without any
    vote is wrong. ``correct_NK`` says of each sample whether it is correct, and so of the answer it gave.
    """
    table = _table(correct_NK)
    if [len(row) for row in answers_NK] != [table.shape[1]] * table.shape[0]:
        raise ValueError(f"expected answers of shape {table.shape}, one for each verdict")
    winners = [majority(answers, same) for answers in answers_NK]
    return float(np.mean([w is not None and bool(row[w]) for w, row in zip(winners, table, strict=True)]))


def majority(answers: Sequence[str | None], same: Same = equivalent) -> int | None:
    """Index of the first sample that gave the most frequent answer; of equally frequent ones, the one seen first.

    An answer joins the first group to whose first member it is the ``same``. None where no sample has an answer.
    """
    votes = Counter(answer for answer in answers if answer is not None)
    groups: dict[str, int] = {}
    for answer, count in votes.items():  # each distinct text is compared once
        leader = next((first for first in groups if same(first, answer)), answer)
        groups[leader] = groups.get(leader, 0) + count
    return answers.index(max(groups, key=lambda first: groups[first])) if groups else None


def paired_bootstrap(
    a_N: ArrayLike, b_N: ArrayLike, seed: int, resamples: int = 10_000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of mean(b − a) over problems, resampled in pairs (Efron and Tibshirani 1993, chapter 13).

    ``a_N`` and ``b_N`` are the scores of two policies on the same problems in the same order, for example each
    problem's share of correct samples; the interval says how far the difference may be luck of the problems drawn.
    """
    difference_N = np.asarray(b_N, dtype=np.float64) - np.asarray(a_N, dtype=np.float64)
    if difference_N.ndim != 1 or not difference_N.size:
        raise ValueError(f"expected one score a problem for both policies, got shape {difference_N.shape}")
    rng = np.random.default_rng(seed)
    size = difference_N.size
    means = np.array([difference_N[rng.integers(size, size=size)].mean() for _ in range(resamples)])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _table(correct_NK: ArrayLike) -> NDArray[np.bool_]:
    table = np.asarray(correct_NK, dtype=bool)
    if table.ndim != 2 or not table.size:
        raise ValueError(f"expected verdicts of shape [problems, samples], got {table.shape}")
    return table

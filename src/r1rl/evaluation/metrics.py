"""Metrics of an evaluation: pass@1, pass@k, majority vote, and confidence intervals of differences.

Shapes: N problems, K samples each. A verdict is true, false, or NaN if the sample was not judged. Samples that were
not judged are left out, and so are problems without any judged sample. A metric without data is None.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

from r1rl.verify import equivalent

Same = Callable[[str, str], object]
"""Whether two answers are equivalent; the result is used by its truth value."""


def pass_at_1(correct_NK: ArrayLike) -> float | None:
    """Mean over problems of the fraction of correct samples, 0..1 (DeepSeek-R1, arXiv 2501.12948, section 3)."""
    return _mean([row.mean() for row in _judged(_table(correct_NK))])


def pass_at_k(correct_NK: ArrayLike, k: int) -> float | None:
    """Probability that at least one of ``k`` samples is correct: 1 − C(n−c, k) / C(n, k), averaged over problems.

    Unbiased for k up to the n judged samples (Chen et al. 2021, arXiv 2107.03374, equation 1); a problem with
    fewer judged samples counts as solved if any of them is correct. Raises ValueError for k outside 1..K.
    """
    table = _table(correct_NK)
    samples = table.shape[1]
    if not 1 <= k <= samples:
        raise ValueError(
            f"pass@{k} cannot be computed from {samples} samples per problem; k must be between 1 and {samples}"
        )
    return _mean([1 - _miss(len(row), int(row.sum()), min(k, len(row))) for row in _judged(table)])


def _miss(samples: int, correct: int, k: int) -> float:
    return comb(samples - correct, k) / comb(samples, k)


def majority_vote(
    answers_NK: Sequence[Sequence[str | None]], correct_NK: ArrayLike, same: Same = equivalent
) -> float | None:
    """Fraction of problems, 0..1, whose most frequent answer is correct (cons@K of arXiv 2501.12948).

    ``answers_NK`` are extracted answers, None where a sample has none; those do not vote, nor do samples that were not
    judged, and a problem without any vote is wrong. ``correct_NK`` gives the verdict on each sample, and
    thereby on its answer.
    """
    table = _table(correct_NK)
    if [len(row) for row in answers_NK] != [table.shape[1]] * table.shape[0]:
        raise ValueError(f"expected answers of shape {table.shape}, one for each verdict")
    right = []
    for answers, row in zip(answers_NK, table, strict=True):
        if not np.isnan(row).all():
            winner = majority([None if np.isnan(v) else a for a, v in zip(answers, row, strict=True)], same)
            right.append(winner is not None and row[winner] == 1)
    return _mean(right)


def majority(answers: Sequence[str | None], same: Same = equivalent) -> int | None:
    """Index of the first sample that gave the most frequent answer; of equally frequent ones, the one seen first.

    An answer joins the first group whose first member is the ``same``. None if no sample has an answer.
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
    problem's fraction of correct samples; the interval shows how much of the difference may be due to the choice of
    problems.
    """
    difference_N = np.asarray(b_N, dtype=np.float64) - np.asarray(a_N, dtype=np.float64)
    if difference_N.ndim != 1 or not difference_N.size:
        raise ValueError(f"expected one score per problem for both policies, got shape {difference_N.shape}")
    rng = np.random.default_rng(seed)
    size = difference_N.size
    means = np.array([difference_N[rng.integers(size, size=size)].mean() for _ in range(resamples)])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _table(correct_NK: ArrayLike) -> NDArray[np.float64]:
    table = np.asarray(correct_NK, dtype=np.float64)
    if table.ndim != 2 or not table.size:
        raise ValueError(f"expected verdicts of shape [problems, samples], got {table.shape}")
    return table


def _judged(table: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """The verdicts of each problem that has at least one."""
    return [row[~np.isnan(row)] for row in table if not np.isnan(row).all()]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None

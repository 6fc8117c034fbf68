"""A penalty for repetition, by n-grams of tokens ("Demystifying Long Chain-of-Thought", arXiv 2502.03373)."""

from __future__ import annotations

from typing import Any


def repetition(completion_ids: list[list[int]], *, n: int = 8, penalty: float = -1.0, **kwargs: Any) -> list[float]:
    """``penalty`` times the share of n-grams of tokens that have occurred before; 0 without n-grams.

    Tokens rather than words, so that it means the same in every language. Short formulas repeat naturally: keep ``n``
    at 6 or more.
    """
    if n < 1:
        raise ValueError(f"repetition needs n >= 1, got {n}")
    return [penalty * _repeated(ids, n) for ids in completion_ids]


def _repeated(ids: list[int], n: int) -> float:
    total = len(ids) - n + 1
    if total < 1:
        return 0.0
    return 1 - len({tuple(ids[start : start + n]) for start in range(total)}) / total

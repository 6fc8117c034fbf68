"""Accuracy scaled by length along a cosine ("Demystifying Long Chain-of-Thought", arXiv 2502.03373, appendix C.1)."""

from __future__ import annotations

import math
from typing import Any

from r1rl.verify import AnswerPlace
from r1rl_rewards.accuracy import accuracy


def cosine(
    completions: list[Any],
    completion_ids: list[list[int]],
    answer: list[Any] | None = None,
    solution: list[Any] | None = None,
    prefill: list[str] | None = None,
    *,
    max_length: int,
    right: tuple[float, float] = (1.0, 0.5),
    wrong: tuple[float, float] = (-1.0, -0.5),
    require: AnswerPlace = "any",
    **kwargs: Any,
) -> list[float | None]:
    """From the first to the second value of ``right`` or ``wrong`` as a completion grows to ``max_length`` tokens.

    By default short right answers earn most and short wrong ones least, which encourages longer thinking after failure.
    None for rows without a gold answer.
    """
    graded = accuracy(completions, answer=answer, solution=solution, prefill=prefill, require=require)
    return [
        None if grade is None else _between(*(right if grade else wrong), min(1.0, len(ids) / max_length))
        for grade, ids in zip(graded, completion_ids, strict=True)
    ]


def _between(short: float, long: float, progress: float) -> float:
    return long + (short - long) * (1 + math.cos(progress * math.pi)) / 2

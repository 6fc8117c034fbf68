"""Countdown (TinyZero): reach the target with each number used exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from r1rl.verify import check_countdown, extract_answer
from r1rl_rewards.texts import texts_of


def countdown(
    completions: list[Any],
    nums: list[Sequence[int]],
    target: list[int],
    prefill: list[str] | None = None,
    *,
    attempt: float = 0.0,
    **kwargs: Any,
) -> list[float]:
    r"""1 where the expression in ``<answer>…</answer>`` (or ``\boxed{…}``) solves the game, else 0.

    ``attempt`` is the reward of a well-formed but wrong expression (TinyZero: 0.1).
    """
    texts = texts_of(completions, prefill)
    return [_grade(text, n, t, attempt) for text, n, t in zip(texts, nums, target, strict=True)]


def _grade(text: str, numbers: Sequence[int], target: int, attempt: float) -> float:
    answer = extract_answer(text)
    if answer is None:
        return 0.0
    verdict = check_countdown(answer, numbers, target)
    return 1.0 if verdict else attempt * (verdict.outcome == "wrong")

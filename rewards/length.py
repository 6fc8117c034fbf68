"""Reward short answers among right ones (Kimi k1.5, arXiv 2501.12599, section 2.3.3)."""

from __future__ import annotations

from typing import Any

from r1rl.verify import AnswerPlace
from r1rl_rewards.accuracy import accuracy


def length(
    completions: list[Any],
    completion_ids: list[list[int]],
    answer: list[Any] | None = None,
    solution: list[Any] | None = None,
    prefill: list[str] | None = None,
    *,
    require: AnswerPlace = "any",
    **kwargs: Any,
) -> list[float | None]:
    """λ = 0.5 − (length − shortest) / (longest − shortest), over the group; a wrong completion gets min(0, λ).

    Lengths in tokens. 0 for all if all are equally long; None for rows without a gold answer.
    """
    lengths = [len(ids) for ids in completion_ids]
    shortest, longest = min(lengths), max(lengths)
    graded = accuracy(completions, answer=answer, solution=solution, prefill=prefill, require=require)
    rewards: list[float | None] = []
    for tokens, right in zip(lengths, graded, strict=True):
        share = 0.5 - (tokens - shortest) / (longest - shortest) if longest > shortest else 0.0
        rewards.append(None if right is None else share if right else min(0.0, share))
    return rewards

"""The format reward of DeepSeek-R1: are the tags in place (arXiv 2501.12948, section 2.2.2)."""

from __future__ import annotations

from typing import Any

from r1rl_rewards.texts import texts_of

THOUGHT = ("<think>", "</think>")
THOUGHT_AND_ANSWER = (*THOUGHT, "<answer>", "</answer>")


def format(
    completions: list[Any], prefill: list[str] | None = None, *, answer_tags: bool = True, **kwargs: Any
) -> list[float]:
    """1 for ``<think>…</think><answer>…</answer>`` and nothing around it, else 0.

    Each tag exactly once, in this order, and something inside each pair. With ``answer_tags=False`` the answer is
    whatever follows the thought, untagged. A ``<think>`` that the template pre-filled is counted as written.
    """
    tags = THOUGHT_AND_ANSWER if answer_tags else THOUGHT
    return [float(_in_order(text, tags)) for text in texts_of(completions, prefill)]


def _in_order(text: str, tags: tuple[str, ...]) -> bool:
    if any(text.count(tag) != (tag in tags) for tag in THOUGHT_AND_ANSWER):
        return False
    pieces = []
    for tag in tags:
        piece, found, text = text.partition(tag)
        if not found:
            return False
        pieces.append(piece.strip())
    outside, inside = pieces[0::2], pieces[1::2]
    rest = text.strip()
    return not any(outside) and all(inside) and (bool(rest) if len(tags) == 2 else not rest)

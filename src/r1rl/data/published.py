"""Functions for ``map``: rows of published datasets whose question or gold answer takes more than a column's name."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any


def gpqa(row: dict[str, Any]) -> dict[str, Any]:
    """GPQA's question with its four choices; their order is a function of the question alone."""
    question = str(row["Question"]).strip()
    right = str(row["Correct Answer"]).strip()
    choices = [right, *(str(row[f"Incorrect Answer {number}"]).strip() for number in (1, 2, 3))]
    seed = int.from_bytes(hashlib.blake2b(question.encode(), digest_size=8).digest())
    random.Random(seed).shuffle(choices)
    return row | {"question": with_choices(question, choices), "answer": ascii_uppercase[choices.index(right)]}


def mmlu_pro(row: dict[str, Any]) -> dict[str, Any]:
    """MMLU-Pro's question with its choices; the gold answer is already a letter."""
    return row | {"question": with_choices(str(row["question"]).strip(), row["options"])}


def mbpp(row: dict[str, Any]) -> dict[str, Any]:
    """MBPP's task with the first of its tests, which names the function."""
    task, example = str(row["text"]).strip(), row["test_list"][0]
    asked = f"{task}\n\nWrite it in one ```python block, with the imports that it needs. It has to pass:\n{example}"
    return row | {"question": asked}


def with_choices(question: str, choices: Sequence[str]) -> str:
    """A multiple-choice question as text, its choices lettered from A."""
    lettered = "\n".join(f"{letter}) {choice}" for letter, choice in zip(ascii_uppercase, choices, strict=False))
    return f"{question}\n\n{lettered}\n\nThe final answer is the letter of the correct choice alone."

"""Chains of one-digit sums and differences, and a pre-training corpus of mixed quality about them.

The corpus plays the part of the web for a large model: some writers work step by step and are right, some make errors,
some guess, some never use the tags. A base model trained on it can reason, but seldom does; R1-Zero has to discover
that from the reward alone. A hash of its text decides whether a question is held out: the corpus, the training split
and the held-out split are disjoint by construction.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import Any

SUMMIT = 60
"""Largest running total; the smallest is 0."""
NO_ERRORS = repeat(0)


def expression(terms: list[int]) -> str:
    """Signed terms as a sum, for example ``3+5-2``."""
    return str(terms[0]) + "".join(f"{term:+d}" for term in terms[1:])


def question(terms: list[int]) -> str:
    """The question as a person would ask it."""
    return f"What is {expression(terms)}?"


def draw_terms(rng: random.Random, low: int = 3, high: int = 6) -> list[int]:
    """Signed one-digit terms whose running total stays within 0…SUMMIT."""
    terms = [rng.randint(1, 9)]
    total = terms[0]
    for _ in range(rng.randint(low, high) - 1):
        term = rng.choice([t for t in range(-9, 10) if t and 0 <= total + t <= SUMMIT])
        terms.append(term)
        total += term
    return terms


def is_held_out(text: str) -> bool:
    """Whether a question is in the held-out split, as one in eight is, regardless of the seed."""
    return hashlib.sha256(text.encode()).digest()[0] < 32


def slips(rng: random.Random) -> Iterator[int]:
    """An endless stream of errors, 0 for most steps."""
    while True:
        yield rng.choice([-2, -1, 1, 2]) if rng.random() < 0.4 else 0


def steps(terms: list[int], errors: Iterable[int] = NO_ERRORS) -> tuple[str, int]:
    """One step per line, for example ``3+5=8``, and the last total; one of ``errors`` is added to each."""
    total, lines = terms[0], []
    for term, error in zip(terms[1:], errors, strict=False):
        following = max(0, total + term + error)
        lines.append(f"{expression([total, term])}={following}")
        total = following
    return "\n".join(lines), total


def guess(rng: random.Random, terms: list[int]) -> int:
    """A quick estimate: close, seldom right."""
    return max(0, sum(terms) + rng.choice([-9, -7, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 7, 9, 0]))


def tagged(thought: str, answer: int) -> str:
    return f" <think>{thought}</think>\n<answer>{answer}</answer>"


def careful(rng: random.Random, terms: list[int]) -> str:
    return tagged(*steps(terms))


def slipping(rng: random.Random, terms: list[int]) -> str:
    return tagged(*steps(terms, slips(rng)))


def hasty(rng: random.Random, terms: list[int]) -> str:
    return tagged(
        rng.choice(["That looks easy.", "I will just estimate.", "No need to work it out."]), guess(rng, terms)
    )


def untagged(rng: random.Random, terms: list[int]) -> str:
    thought, answer = steps(terms)
    return f" {thought}\nSo it is {answer}."


def blunt(rng: random.Random, terms: list[int]) -> str:
    return rng.choice([" It is {}.", " The answer is {}.", " {}, I think."]).format(guess(rng, terms))


ThoughtWriter = Callable[[random.Random, list[int]], str]
WRITERS: dict[ThoughtWriter, float] = {careful: 0.25, slipping: 0.15, hasty: 0.2, untagged: 0.1, blunt: 0.3}
"""The writers of the corpus, and each one's share of it."""

PROMPT = "User: {question}\nAssistant:"


def document(rng: random.Random, low: int = 3, high: int = 6) -> tuple[str, str]:
    """One corpus document as (prompt, continuation), of ``low`` to ``high`` terms; never about a held-out question."""
    while True:
        terms = draw_terms(rng, low, high)
        asked = question(terms)
        if not is_held_out(asked):
            writer = rng.choices(list(WRITERS), list(WRITERS.values()))[0]
            return PROMPT.format(question=asked), writer(rng, terms)


def problems(split: str, size: int, seed: int = 0) -> list[dict[str, Any]]:
    """Distinct rows with ``question`` and ``answer`` from the ``train`` or the ``test`` split."""
    return draw_problems(random.Random(f"{split}/{seed}"), split, size)


def draw_problems(rng: random.Random, split: str, size: int) -> list[dict[str, Any]]:
    """The first ``size`` distinct rows of ``split`` that ``rng`` produces."""
    rows: dict[str, dict[str, Any]] = {}
    while len(rows) < size:
        terms = draw_terms(rng)
        asked = question(terms)
        if is_held_out(asked) == (split == "test"):
            rows[asked] = {"question": asked, "answer": str(sum(terms))}
    return list(rows.values())

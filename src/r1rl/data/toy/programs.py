"""One-line programs, and a pre-training corpus of mixed quality about them, as in :mod:`r1rl.data.toy.arithmetic`.

A question lists what a function does to its argument; the tests call the function that the model writes. Some writers
of the corpus build the expression step by step and are right, some forget brackets or mistake a number, some do not
think, some never use the tags.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from r1rl.data.toy.arithmetic import is_held_out

WORDS = {"+": "add", "-": "subtract", "*": "multiply by"}
ARGUMENTS = (-7, 0, 1, 12)
"""What the tests call the function with; two of them tell any two of these functions apart."""

Step = tuple[str, int]


def draw_steps(rng: random.Random, low: int = 2, high: int = 3) -> list[Step]:
    """Operations with one-digit numbers, in the order in which they are applied."""
    return [(rng.choice("+-*"), rng.randint(2, 9)) for _ in range(rng.randint(low, high))]


def question(steps: list[Step]) -> str:
    """The question as a person would ask it."""
    return f"Write f(x): {', '.join(f'{WORDS[operation]} {number}' for operation, number in steps)}."


def stages(steps: list[Step], brackets: bool = True) -> list[str]:
    """The expression after each step; without ``brackets``, a sum is multiplied as if it had them."""
    found, text, is_sum = [], "x", False
    for operation, number in steps:
        if operation == "*" and is_sum and brackets:
            text = f"({text})"
        text += f"{operation}{number}"
        is_sum = operation != "*"
        found.append(text)
    return found


def applied(steps: list[Step], x: int) -> int:
    """What the function returns."""
    for operation, number in steps:
        x = x * number if operation == "*" else x + (number if operation == "+" else -number)
    return x


def block(expression: str) -> str:
    return f"```python\ndef f(x): return {expression}\n```"


def tagged(thought: str, expression: str) -> str:
    return f" <think>{thought}</think>\n<answer>\n{block(expression)}\n</answer>"


def careful(rng: random.Random, steps: list[Step]) -> str:
    found = stages(steps)
    return tagged("\n".join(found), found[-1])


def slipping(rng: random.Random, steps: list[Step]) -> str:
    operation, number = steps[-1]
    wrong = [*steps[:-1], (operation, max(2, number + rng.choice((-1, 1))))] if rng.random() < 0.5 else steps
    found = stages(wrong, brackets=False)
    return tagged("\n".join(found), found[-1])


def hasty(rng: random.Random, steps: list[Step]) -> str:
    thought = rng.choice(("That looks easy.", "I will just write something.", "No need to work it out."))
    return tagged(thought, stages(draw_steps(rng))[-1])


def untagged(rng: random.Random, steps: list[Step]) -> str:
    return f" {block(stages(steps)[-1])}"


def blunt(rng: random.Random, steps: list[Step]) -> str:
    return rng.choice((" It is {}.", " Just return {}.", " {}, I think.")).format(stages(draw_steps(rng))[-1])


ProgramWriter = Callable[[random.Random, list[Step]], str]
WRITERS: dict[ProgramWriter, float] = {careful: 0.25, slipping: 0.2, hasty: 0.2, untagged: 0.1, blunt: 0.25}
"""The writers of the corpus, and each one's share of it."""

PROMPT = "User: {question}\nAssistant:"


def document(rng: random.Random, low: int = 2, high: int = 3) -> tuple[str, str]:
    """One corpus document as (prompt, continuation); never about a held-out question."""
    while True:
        steps = draw_steps(rng, low, high)
        asked = question(steps)
        if not is_held_out(asked):
            writer = rng.choices(list(WRITERS), list(WRITERS.values()))[0]
            return PROMPT.format(question=asked), writer(rng, steps)


def problems(split: str, size: int, seed: int = 0, low: int = 2, high: int = 3) -> list[dict[str, Any]]:
    """Distinct rows with ``question`` and ``test_cases`` from the ``train`` or the ``test`` split."""
    rng = random.Random(f"{split}/{seed}")
    rows: dict[str, dict[str, Any]] = {}
    while len(rows) < size:
        steps = draw_steps(rng, low, high)
        asked = question(steps)
        if is_held_out(asked) == (split == "test"):
            cases = [{"fn_name": "f", "input": [x], "output": applied(steps, x)} for x in ARGUMENTS]
            rows[asked] = {"question": asked, "test_cases": cases}
    return list(rows.values())

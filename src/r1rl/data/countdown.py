"""Countdown problems: reach a target with each of a few numbers used exactly once (after TinyZero).

The columns are those of Jiayi-Pan/Countdown-Tasks-3to4 (``nums``, ``target``) and a ``question`` in words.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal

from r1rl.errors import DataError

QUESTION = "Using the numbers {nums}, each exactly once, and + - * / with brackets, make {target}."

_DRAWS_PER_PROBLEM = 1000


def countdown(
    size: int = 1000,
    seed: int = 0,
    split: Literal["train", "test"] = "train",
    numbers: Sequence[int] = (3, 4),
    largest: int = 99,
    target_max: int = 99,
) -> list[dict[str, Any]]:
    """``size`` distinct solvable problems; identical for the same arguments.

    ``numbers`` lists how many numbers the problems have, used in rotation; each number is between 1 and ``largest``,
    the target between 1 and ``target_max``. Regardless of the seeds, ``split: test`` shares no problem with
    ``split: train``: a tenth of all problems, chosen by a checksum of the problem itself, is reserved for tests.
    Raises DataError if there are too few problems within the bounds.
    """
    if split not in ("train", "test"):
        raise DataError(f"generated:countdown has the splits train and test, not {split!r}; correct args.split")
    random_state = random.Random(f"countdown {seed}")
    seen: set[tuple[int, ...]] = set()
    rows: list[dict[str, Any]] = []
    for _ in range(size * _DRAWS_PER_PROBLEM):
        if len(rows) == size:
            return rows
        nums = [random_state.randint(1, largest) for _ in range(numbers[len(rows) % len(numbers)])]
        target = _reached_at_random(nums, random_state)
        key = (*sorted(nums), target)
        if not 1 <= target <= target_max or key in seen or (_kept_for_test(key) != (split == "test")):
            continue
        seen.add(key)
        rows.append({"nums": nums, "target": target, "question": QUESTION.format(nums=nums, target=target)})
    raise DataError(f"generated:countdown found {len(rows)} of {size} problems; lower args.size or widen the bounds")


def _kept_for_test(key: tuple[int, ...]) -> bool:
    return zlib.crc32(repr(key).encode()) % 10 == 0


def _reached_at_random(nums: list[int], random_state: random.Random) -> int:
    """The value of a random expression over all the numbers; 0 where it is not an integer."""
    values = [Fraction(n) for n in nums]
    while len(values) > 1:
        a = values.pop(random_state.randrange(len(values)))
        b = values.pop(random_state.randrange(len(values)))
        operation = random_state.choice("+-*/")
        if operation == "/" and b == 0:
            return 0
        values.append({"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else a}[operation])
    return int(values[0]) if values[0].denominator == 1 else 0

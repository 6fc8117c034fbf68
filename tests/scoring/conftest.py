from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from r1rl.types import Completion, Group, Problem


def make_group(
    texts: list[str], *, prompt: Any = "What is 9 · 2?", source: str = "math", prefill: str = "", **columns: Any
) -> Group:
    problem = Problem("p", (1, 2, 3), prompt, columns, source, prefill)
    completions = [
        Completion(np.arange(len(text.split()) + 1), np.zeros(len(text.split()) + 1, dtype=np.float32), text, "stop")
        for text in texts
    ]
    return Group(problem, completions)


@pytest.fixture
def group() -> Callable[..., Group]:
    return make_group

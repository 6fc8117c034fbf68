from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from r1rl.config.rewards import RewardConfig, ScoringConfig
from r1rl.scoring import Scorer
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
def scorer_of(tmp_path: Path) -> Iterator[Callable[..., Scorer]]:
    """Scorers over functions written to a file, named as a user would name them; closed at the end."""
    opened: list[Scorer] = []

    def make(
        code: str = "", applies: Any = None, limit_s: float = 120.0, scoring: Any = None, **rewards: Any
    ) -> Scorer:
        path = tmp_path / "rewards.py"
        path.write_text(code)
        configs = {}
        for name, given in rewards.items():
            config = RewardConfig.model_validate(given)
            if config.function is not None and config.function.startswith(":"):
                config = config.model_copy(update={"function": f"{path}{config.function}"})
            configs[name] = config
        settings = ScoringConfig(function_timeout_s=limit_s, **(scoring or {}))
        opened.append(Scorer(configs, settings, applies=applies))
        return opened[-1]

    yield make
    for scorer in opened:
        scorer.close()


@pytest.fixture
def group() -> Callable[..., Group]:
    return make_group

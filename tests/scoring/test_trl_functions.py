"""Reward functions written for TRL and open-r1 plug in unchanged: their values are those of a direct call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from r1rl.config.rewards import RewardConfig, ScoringConfig
from r1rl.scoring import Scorer
from r1rl.types import Group

MakeGroup = Callable[..., Group]
PROMPT = [{"role": "user", "content": "Half of a third?"}]
TEXTS = [
    r"<think>1/2 of 1/3</think>It is $\boxed{\frac{1}{6}}$.",
    r"<think>1/2 + 1/3</think>It is $\boxed{\frac{5}{6}}$.",
    r"It is $\boxed{\frac{1}{6}}$.",
    "I do not know.",
]


def scores(group: Group, use: str, state: dict[str, Any] | None = None, **args: Any) -> list[float]:
    with Scorer({"it": RewardConfig(use=use, args=args)}, ScoringConfig()) as scorer:
        return scorer.score([group], state)[0].by_reward["it"].tolist()


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("accuracy_reward", {}),
        ("reasoning_accuracy_reward", {}),
        ("think_format_reward", {}),
        ("get_soft_overlong_punishment", {"max_completion_len": 8, "soft_punish_cache": 5}),
        ("get_cosine_scaled_reward", {"max_len": 10}),
    ],
)
def test_trl_functions(group: MakeGroup, name: str, args: dict[str, int]) -> None:
    rewards = pytest.importorskip("trl.rewards")
    mine = group(TEXTS, prompt=PROMPT, solution=r"$\frac{1}{6}$")
    function = getattr(rewards, name)
    direct = function(**args) if args else function
    expected = direct(
        completions=[[{"role": "assistant", "content": text}] for text in TEXTS],
        solution=[r"$\frac{1}{6}$"] * 4,
        completion_ids=[completion.token_ids.tolist() for completion in mine.completions],
    )
    found = scores(mine, f"trl.rewards:{name}", **args)
    np.testing.assert_allclose(found, [np.nan if value is None else value for value in expected])


OPEN_R1 = """
import asyncio
from functools import partial, update_wrapper

def code_reward(completions, num_parallel=2, **kwargs):
    problems = [dict(zip(kwargs.keys(), values)) for values in zip(*kwargs.values())]
    assert len(problems) == len(completions), "every keyword argument is a list with one item a completion"
    return [float(problem["language"] == "python") for problem in problems]

async def ioi_reward(completions, test_batch_size=1, **kwargs):
    problems = [dict(zip(kwargs.keys(), values)) for values in zip(*kwargs.values())]
    await asyncio.sleep(0)
    return [len(problem["prompts"]) * test_batch_size for problem in problems]

def get_len_reward(scale):
    def len_reward(completions, **kwargs):
        return [len(completion[0]["content"]) * scale for completion in completions]
    return len_reward

ioi = update_wrapper(partial(ioi_reward, test_batch_size=3), ioi_reward)

def sometimes(prompts, completions, task, **kwargs):
    return [None if kind == "chat" else 1.0 for kind in task]

def logging(completions, trainer_state=None, log_extra=None, log_metric=None, **kwargs):
    log_extra("seen", [trainer_state.global_step] * len(completions))
    log_metric("seen", trainer_state.global_step)
    return [1] * len(completions)

def tensor(completions, **kwargs):
    import torch
    return torch.arange(len(completions)) / 2

def boolean(completions, **kwargs):
    return [True, False, True, False]
"""


@pytest.fixture
def open_r1(tmp_path: Path) -> str:
    path = tmp_path / "open_r1_rewards.py"
    path.write_text(OPEN_R1)
    return str(path)


def test_open_r1_protocol(group: MakeGroup, open_r1: str) -> None:
    mine = group(TEXTS, prompt=PROMPT, language="python", task="chat")
    assert scores(mine, f"{open_r1}:code_reward", num_parallel=4) == [1.0] * 4
    assert scores(mine, f"{open_r1}:ioi") == [3.0] * 4
    assert scores(mine, f"{open_r1}:get_len_reward", scale=0.5) == [len(text) * 0.5 for text in TEXTS]
    assert np.isnan(scores(mine, f"{open_r1}:sometimes")).all()
    assert scores(mine, f"{open_r1}:logging", {"global_step": 3}) == [1.0] * 4
    assert scores(mine, f"{open_r1}:tensor") == [0.0, 0.5, 1.0, 1.5]
    assert scores(mine, f"{open_r1}:boolean") == [1.0, 0.0, 1.0, 0.0]


def test_a_torch_module_is_a_reward_model(group: MakeGroup, tmp_path: Path, tiny_folder: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "from transformers import AutoModelForSequenceClassification\n"
        f"model = AutoModelForSequenceClassification.from_pretrained({str(tiny_folder)!r}, num_labels=1)\n"
    )
    torch.manual_seed(0)
    values = scores(group(TEXTS), f"{path}:model")
    assert len(set(values)) == 4
    assert np.isfinite(values).all()

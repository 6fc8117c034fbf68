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
    with Scorer({"it": RewardConfig(function=use, args=args)}, ScoringConfig()) as scorer:
        return scorer.score([group], state)[0].by_reward["it"].tolist()


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("accuracy_reward", {}),
        ("reasoning_accuracy_reward", {}),
        ("think_format_reward", {}),
        ("get_soft_overlong_punishment", {"max_completion_len": 8, "soft_punish_cache": 5}),
        ("get_cosine_scaled_reward", {"max_len": 10}),
        ("get_repetition_penalty_reward", {"ngram_size": 2, "max_penalty": -0.5}),
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
    assert len(problems) == len(completions), "every keyword argument is a list with one item per completion"
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


MATH_VERIFY = """
import asyncio
import math
import re
from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify

parsed = {}

def right(text, gold):
    if gold not in parsed:
        print("parsing", gold)
        parsed[gold] = parse(gold, extraction_mode="first_match", extraction_config=[LatexExtractionConfig()])
    boxed = NormalizationConfig(basic_latex=True, units=True, malformed_operators=False, boxed="all", equations=True)
    config = LatexExtractionConfig(
        normalization_config=boxed, boxed_match_priority=0, try_extract_without_anchor=False
    )
    return verify(parse(text, extraction_mode="first_match", extraction_config=[config]), parsed[gold])

def is_right(completions, solution, **kwargs):
    return [float(right(c[0]["content"], s)) for c, s in zip(completions, solution)]

def short_and_right(completions, solution, **kwargs):
    texts = [c[0]["content"] for c in completions]
    longest, shortest = max(map(len, texts)), min(map(len, texts))
    scaled = [0.5 - (len(t) - shortest) / (longest - shortest) for t in texts]
    return [v if right(t, s) else min(0, v) for v, t, s in zip(scaled, texts, solution)]

def get_scaled(max_len=1000):
    def scaled(completions, solution, **kwargs):
        waves = [math.cos(math.pi * len(c[0]["content"]) / max_len) for c in completions]
        return [w if right(c[0]["content"], s) else -w for w, c, s in zip(waves, completions, solution)]
    return scaled

def get_code_format(language="python"):
    pattern = re.compile(rf"^<think>.*?</think>.*?```{language}.*?```$", re.DOTALL)
    def code_format(completions, **kwargs):
        return [1.0 if pattern.match(c[0]["content"]) else 0.0 for c in completions]
    return code_format

def run_from_sync(completions, **kwargs):
    async def run(text):
        await asyncio.sleep(0)
        return float(len(text))
    async def run_all():
        return await asyncio.gather(*(run(c[0]["content"]) for c in completions))
    try:
        loop = asyncio.get_event_loop()
    except RuntimeError:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
    return loop.run_until_complete(run_all())

def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    return {"score": float(right(solution_str, ground_truth)), "source": data_source}

def from_verl(completions, data_source, solution, **kwargs):
    rows = zip(data_source, completions, solution)
    return [compute_score(source, c[0]["content"], gold)["score"] for source, c, gold in rows]
"""


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("is_right", {}), ("short_and_right", {}), ("get_scaled", {"max_len": 100}),
        ("get_code_format", {"language": "python"}), ("run_from_sync", {}), ("from_verl", {}),
    ],
)  # fmt: skip
def test_functions_that_need_the_main_thread(group: MakeGroup, tmp_path: Path, name: str, args: dict[str, Any]) -> None:
    """Idioms of open-r1 and verl: math-verify with its default time-outs, loops made by hand. As called directly."""
    path = tmp_path / "idioms.py"
    path.write_text(MATH_VERIFY)
    texts = [*TEXTS, "<think>1</think>\n```python\nprint(1)\n```"]
    columns = {"solution": r"$\frac{1}{6}$", "data_source": "math"}
    space: dict[str, Any] = {}
    exec(compile(MATH_VERIFY, str(path), "exec"), space)
    direct = space[name](**args) if args else space[name]
    completions = [[{"role": "assistant", "content": text}] for text in texts]
    expected = direct(completions=completions, **{key: [value] * len(texts) for key, value in columns.items()})
    assert len(set(expected)) > 1
    assert scores(group(texts, prompt=PROMPT, **columns), f"{path}:{name}", **args) == expected


def test_the_best_known_rewards_side_by_side(group: MakeGroup) -> None:
    """One process for a module, whatever it is asked; TRL's own values are the oracle."""
    rewards = pytest.importorskip("trl.rewards")
    configs = {
        "accuracy": RewardConfig(function="trl.rewards:accuracy_reward"),
        "reasoning": RewardConfig(function="trl.rewards:reasoning_accuracy_reward"),
        "format": RewardConfig(function="trl.rewards:think_format_reward"),
    }
    completions = [[{"role": "assistant", "content": text}] for text in TEXTS]
    golds = [r"$\frac{1}{6}$", r"$\frac{5}{6}$", r"$x$"]
    with Scorer(configs, ScoringConfig()) as scorer:
        scored = scorer.score([group(TEXTS, prompt=PROMPT, solution=gold) for gold in golds])
    for gold, one in zip(golds, scored, strict=True):
        given = {"completions": completions, "solution": [gold] * len(TEXTS)}
        assert one.by_reward["accuracy"].tolist() == rewards.accuracy_reward(**given)
        assert one.by_reward["reasoning"].tolist() == rewards.reasoning_accuracy_reward(**given)
        assert one.by_reward["format"].tolist() == rewards.think_format_reward(completions)
        assert one.extras  # what TRL's functions log for the table of completions

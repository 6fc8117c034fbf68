"""A reward model learns a preference that can be learnt, and the reward of the same name reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from r1rl.errors import DataError
from r1rl.scoring.registry import bind, load
from r1rl.stages import reward_model

PLAN = """
name: plan
threads: 1
device: cpu
stages: {{ prefer: {{ kind: reward_model, model: {model} }} }}
data:
  train: {{ pairs: {{ path: generated:bilingual_preferences, args: {{ size: 160, aspect: help }} }} }}
  prompt: {{ template: r1_zero, system: "", max_tokens: 64 }}
reward_model: {{ part: summary, epochs: 3, lr: 5e-3, batch: 16, micro_batch: 16, max_tokens: 200 }}
tracking: {{ console: false }}
"""
PROMPT = "User: Thank Tom at work.\nAssistant:"
KIND = " <think>{}</think>\n<answer>Thank you Tom, that was very kind!</answer>"
CURT = " <think>{}</think>\n<answer>Thanks.</answer>"


def test_it_learns_the_preference_of_the_final_part(stages: Any, tiny: Path) -> None:
    torch.set_num_threads(1)
    ctx = stages(PLAN.format(model=tiny), "prefer")
    metrics = reward_model.run(ctx).metrics
    assert metrics["held_out_accuracy"] > 0.8
    score = bind("helpful", load("reward_model"), {"model": str(ctx.folder / "model"), "part": "summary"})
    kind, curt, spite = score(prompts=[PROMPT] * 3, completions=[KIND.format("a"), CURT.format("a"), KIND.format("b")])
    assert kind > curt
    assert kind == pytest.approx(spite)  # the thought is no part of it


def test_pairs_without_a_text(stages: Any, tiny: Path) -> None:
    ctx = stages(PLAN.format(model=tiny), "prefer", "reward_model.rejected=worse")
    with pytest.raises(DataError, match=r"reward_model\.chosen and rejected"):
        reward_model.run(ctx)

"""Real problems through prompts, rollouts, rewards and updates, on a model far too small to solve them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from r1rl import GRPOTrainer, load_config, stage_config
from r1rl.tracking.console import Console

HERE = Path(__file__).parent
ROWS = HERE.parent / "data" / "gsm8k_rows.jsonl"
WHOLE = HERE.parents[2] / "shared" / "data" / "gsm8k"


@pytest.mark.parametrize(
    "rows",
    [
        ROWS,
        pytest.param(
            WHOLE / "train.jsonl",
            marks=pytest.mark.skipif(not WHOLE.is_dir(), reason="the whole of GSM8K is not beside this checkout"),
        ),
    ],
    ids=["fixture", "whole"],
)
def test_gsm8k_trains_for_some_steps(rows: Path, tiny_folder: Path, tmp_path: Path) -> None:
    shipped = HERE.parents[1] / "configs" / "gsm8k-qwen2.5-0.5b" / "zero.yaml"
    loaded = load_config(
        shipped,
        [
            f"model.path={tiny_folder}",
            "model.dtype=float32",
            "model.gradient_checkpointing=false",
            "device=cpu",
            "rollout.engine=torch",
            f"data.train.gsm8k.path={rows}",
            "data.train.gsm8k.limit=64",
            "data.eval.gsm8k=null",
            "data.prompt.max_tokens=4096",
            "data.prompt.too_long=skip",
            "rollout.prompts_per_step=2",
            "rollout.group_size=4",
            "rollout.max_new_tokens=16",
            "grpo.minibatches=1",
            "grpo.steps=2",
            "grpo.learning_rate=1e-3",
            "grpo.eval_every=0",
            "rewards.digits=" + json.dumps({"function": f"{tmp_path / 'digits.py'}:digits"}),
            "tracking.console=false",
        ],
    )
    (tmp_path / "digits.py").write_text(
        "def digits(completions, **kwargs):\n"
        "    return [sum(ch.isdigit() for ch in str(c)) / 10 for c in completions]\n"
    )
    stage = next(name for name, each in loaded.stages.items() if each.kind == "grpo") if loaded.stages else "grpo"
    GRPOTrainer(stage_config(loaded, stage), tmp_path / "run", console=Console(quiet=True)).train()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert all(0 <= line["reward/accuracy/mean"] <= 1 for line in lines)
    before = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32).state_dict()
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model", dtype=torch.float32).state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)

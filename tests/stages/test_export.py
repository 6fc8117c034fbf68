"""An exported folder opens elsewhere and writes the prompts that the model was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from r1rl.config import PromptConfig
from r1rl.data.templates import render
from r1rl.errors import ConfigError
from r1rl.stages import export

PLAN = """
name: plan
stages: {{ out: {{ kind: export, model: {model} }} }}
data: {{ prompt: {prompt} }}
"""
PROMPTS: list[dict[str, Any]] = [
    {},
    {"system": ""},
    {"system": "Solve it.", "prefill": " <think>", "instruction": "Put it in \\boxed{}."},
    {"template": "raw"},
]


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: "-".join(prompt) or "default")
def test_the_chat_template_writes_the_same_prompt(stages: Any, tiny: Path, prompt: dict[str, Any]) -> None:
    ctx = stages(PLAN.format(model=tiny, prompt=json.dumps(prompt)), "out")
    export.run(ctx)
    tokenizer = AutoTokenizer.from_pretrained(ctx.folder / "model")
    question = "What's 3+5?\nExplain {it}."
    written = tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True)
    ours = render(question, tokenizer, PromptConfig(**prompt)).prompt_ids
    assert tuple(written["input_ids"] if not isinstance(written, list) else written) == ours


def test_the_model_is_the_same(stages: Any, tiny: Path) -> None:
    ctx = stages(PLAN.format(model=tiny, prompt="{}"), "out", "export.dtype=float32")
    export.run(ctx)
    a, b = (AutoModelForCausalLM.from_pretrained(folder) for folder in (tiny, ctx.folder / "model"))
    ids = torch.arange(7)[None]
    torch.testing.assert_close(a(ids).logits, b(ids).logits, rtol=0, atol=0)


def test_it_does_not_overwrite_other_things(stages: Any, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    ctx = stages(PLAN.format(model=tiny, prompt="{}"), "out", f"export.folder={tmp_path / 'mine'}")
    with pytest.raises(ConfigError, match="something else"):
        export.run(ctx)

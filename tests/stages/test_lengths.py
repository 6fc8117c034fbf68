"""No stage generates or learns beyond a model's positions, where it would compute nonsense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from r1rl.chat.generate import Sampling, TextGenerator
from r1rl.chat.session import Session
from r1rl.config import PromptConfig
from r1rl.errors import ConfigError
from r1rl.stages import evaluate, pretrain, reward_model, sample, sft

PLAN = """
name: plan
threads: 1
device: cpu
stages: {{ here: {{ kind: {kind}, model: {model} }} }}
data:
  train: {{ a: {{ path: {rows}, answer: answer }} }}
  eval: {{ b: {{ path: {rows}, answer: answer }} }}
  prompt: {{ template: r1_zero, system: "", max_tokens: 64 }}
  on_overlap: drop
rewards: {{ accuracy: 1.0 }}
rollout: {{ max_new_tokens: 8 }}
tracking: {{ console: false }}
"""


@pytest.fixture
def short(tiny: Path, tmp_path: Path) -> Path:
    """The tiny model with 64 positions."""
    folder = tmp_path / "short"
    folder.mkdir()
    for file in tiny.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 64}))
    return folder


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    row = {"question": "What is 1+1?", "answer": "2", "response": "2 " * 60, "chosen": "2 " * 60, "rejected": "3"}
    path.write_text("".join(json.dumps(row | {"question": f"What is {a}+1?"}) + "\n" for a in range(3)))
    return path


@pytest.mark.parametrize("key", ["rollout.max_new_tokens", "evaluate.max_new_tokens"])
def test_evaluate(stages: Any, short: Path, rows: Path, key: str) -> None:
    ctx = stages(PLAN.format(kind="evaluate", model=short, rows=rows), "here", f"{key}=64")
    with pytest.raises(ConfigError, match=rf"^{key} 64 plus the longest prompt of \d+ tokens .* 64 positions"):
        evaluate.run(ctx)


@pytest.mark.parametrize("key", ["rollout.max_new_tokens", "sample.max_new_tokens"])
def test_sample(stages: Any, short: Path, rows: Path, tmp_path: Path, key: str) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"question": "What is 7+7?", "answer": "14"}) + "\n")
    ctx = stages(PLAN.format(kind="sample", model=short, rows=rows), "here", f"{key}=64", f"data.eval.b.path={other}")
    with pytest.raises(ConfigError, match=rf"^{key} 64 plus the longest prompt of \d+ tokens .* 64 positions"):
        sample.run(ctx)


@pytest.mark.parametrize(("kind", "run"), [("sft", sft.run), ("reward_model", reward_model.run)])
def test_texts_to_learn_from(stages: Any, short: Path, rows: Path, tmp_path: Path, kind: str, run: Any) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"question": "What is 7+7?", "answer": "14"}) + "\n")
    overrides = (f"{kind}.batch_size=8", f"data.eval.b.path={other}")
    ctx = stages(PLAN.format(kind=kind, model=short, rows=rows), "here", *overrides)
    with pytest.raises(ConfigError, match=rf"longest example has \d+ tokens, .*set {kind}\.max_tokens to at most 64"):
        run(ctx)


def test_pretrain(stages: Any) -> None:
    ctx = stages(
        "name: plan\nstages: { here: { kind: pretrain } }\npretrain: { model: { max_positions: 16 } }\n"
        "tracking: { console: false }\n",
        "here",
    )
    with pytest.raises(ConfigError, match=r"pretrain\.model\.max_positions 16: the corpus has a text of \d+ tokens"):
        pretrain.run(ctx)


def test_a_chat_ends_its_response_where_the_positions_end(short: Path) -> None:
    generator = TextGenerator(str(short), PromptConfig(template="raw"), Sampling(0.0, 1.0, 2048), "cpu")
    generator.tokenizer.chat_template = None
    assert generator._limit(60) == 4
    assert "".join(generator.reply([{"role": "user", "content": "1+1?"}])) is not None
    with pytest.raises(ConfigError, match="64 positions: /new starts another one"):
        list(generator.reply([{"role": "user", "content": "1+1?" * 40}]))
    session = Session(generator, None)
    assert session.ask("1+1?" * 40) == ""
    assert session.messages == []

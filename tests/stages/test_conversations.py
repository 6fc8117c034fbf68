"""Conversations from rejection sampling to fine-tuning: what is learnt is what the chat template writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from r1rl.data.overlap import normalized_question
from r1rl.data.problems import load_problems
from r1rl.errors import DataError
from r1rl.records import sampled_rows
from r1rl.scoring import Scorer
from r1rl.stages import sample, sft
from r1rl.stages.rewrite import scores_of
from r1rl.stages.sample_log import SampleLog
from r1rl.types import Completion, Group, Problem, ScoredGroup

TEMPLATE = (
    "{% for m in messages %}{{ m.role }}:\n{{ m.content }}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:\n{% endif %}"
)
SYSTEM = {"role": "system", "content": "You are careful, brief, kind, and you always check every single step again."}
ROWS: list[dict[str, Any]] = [
    {"question": [{"role": "user", "content": "What is 3+4?"}], "answer": 7, "level": None},
    {"question": [SYSTEM, {"role": "user", "content": "Quanto é 2+2 — “já”? 一共？"}], "answer": "4"},
    {
        "question": [
            SYSTEM,
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi, ask me"},
            {"role": "user", "content": "What is 5+5?"},
        ],
        "answer": "10",
    },
]
PLAN = """
name: plan
threads: 1
device: cpu
stages:
  draw: {{ kind: sample, model: {model} }}
  tune: {{ kind: sft, model: {model}, data: "${{draw.data}}" }}
data:
  train:
    talk: {{ path: {rows}, prompt: {{ template: chat, max_tokens: 999 }} }}
    plain: {{ path: {plain} }}
  eval: {{ held_out: {{ path: {held_out}, prompt: {{ template: chat, max_tokens: 999 }} }} }}
  prompt: {{ template: r1_zero, system: "", max_tokens: 999 }}
rewards: {{ accuracy: 1.0 }}
sample: {{ filters: {{ language: null }} }}
sft: {{ max_tokens: 999 }}
tracking: {{ console: false }}
"""


@pytest.fixture(scope="module")
def model(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tokenizer with a chat template; no stage here opens a model."""
    folder = tmp_path_factory.mktemp("chat") / "model"
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def tokenizer(model: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(model)


@pytest.fixture
def plan(model: Path, tmp_path: Path) -> str:
    held_out = [{"question": [SYSTEM, {"role": "user", "content": "Something else altogether?"}], "answer": "1"}]
    plain = [{"question": "What is 1+1?", "answer": "2"}]
    files = {"rows": ROWS, "plain": plain, "held_out": held_out}
    for name, rows in files.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return PLAN.format(model=model, **{name: tmp_path / f"{name}.jsonl" for name in files})


def drawn(ctx: Any, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    """One right answer for every problem, as the stage writes it down and reads it again."""
    log = SampleLog(ctx.folder, 0)
    problems = load_problems(ctx.config.data.train, ctx.config.data.prompt, tokenizer).problems
    for problem in problems:
        text = f"<think>{problem.columns['answer']} “sure” 对</think>\n<answer>{problem.columns['answer']}</answer>"
        ids = np.asarray(tokenizer(text)["input_ids"])
        group = Group(problem, [Completion(ids, np.zeros(len(ids), np.float32), text, "stop")])
        log.append(problem.id, sampled_rows(ScoredGroup(group, np.ones(1), {"accuracy": np.ones(1)})))
    found = log.read()
    log.close()
    return [row for problem in problems for row in found[problem.id]]


def test_what_is_learnt_is_what_the_template_writes(stages: Any, plan: str, tokenizer: PreTrainedTokenizerBase) -> None:
    ctx = stages(plan, "draw")
    held_out = load_problems(ctx.config.data.eval, ctx.config.data.prompt, tokenizer).problems
    evaluated = [normalized_question(problem) for problem in held_out]
    metrics = sample.sift(ctx, drawn(ctx, tokenizer), evaluated, tokenizer)
    assert metrics["kept"] == 4, "a system message that all questions share is not contamination"
    kept = [json.loads(line) for line in (ctx.folder / "data.jsonl").read_text().splitlines()]
    assert [row["question"] for row in kept] == [*(row["question"] for row in ROWS), "What is 1+1?"]

    tune = stages(plan, "tune")
    tune.config.data.train["draw"].path = str(ctx.folder / "data.jsonl")
    examples, skipped = sft.read_examples(tune, tokenizer)
    assert not skipped
    for row, example in zip(kept[:3], examples[:3], strict=True):
        messages = [*row["question"], {"role": "assistant", "content": row["response"]}]
        assert example["input_ids"] == tokenizer.apply_chat_template(messages, return_dict=False)
        learnt = [label for label in example["labels"] if label != -100]
        assert tokenizer.decode(learnt) == row["response"] + tokenizer.eos_token
    assert tokenizer.decode(examples[3]["input_ids"]).startswith("User: What is 1+1?\nAssistant:")
    assert examples[3]["input_ids"][-1] == examples[3]["labels"][-1] == tokenizer.eos_token_id


def test_conversations_verify_again(stages: Any, plan: str, tokenizer: PreTrainedTokenizerBase) -> None:
    ctx = stages(plan, "draw")
    rows = drawn(ctx, tokenizer)
    with Scorer(ctx.config.rewards, ctx.config.scoring) as scorer:
        again = scores_of(rows, [[1]] * 4, scorer)
    assert [row["rewards"] for row in again] == [{"accuracy": 1.0}] * 4


@pytest.mark.parametrize("in_question", [True, False])
def test_rows_of_messages(
    stages: Any, plan: str, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, in_question: bool
) -> None:
    """As TRL's ``messages`` (the answer is the last of them) and ``prompt`` and ``completion``."""
    said = {"role": "assistant", "content": "<think>3</think> 7"}
    asked = ROWS[1]["question"]
    row = {"question": [*asked, said]} if in_question else {"question": asked, "response": [said]}
    path = tmp_path / "messages.jsonl"
    path.write_text(json.dumps(row) + "\n")
    ctx = stages(plan, "tune", f"stages.tune.data={{train: {{talk: {{path: {path}}}, plain: null}}}}")
    (example,), _ = sft.read_examples(ctx, tokenizer)
    assert example["input_ids"] == tokenizer.apply_chat_template([*asked, said], return_dict=False)
    path.write_text(json.dumps({"question": [said]}) + "\n")
    with pytest.raises(DataError, match="line 1: column 'question' holds only the assistant's message"):
        sft.read_examples(ctx, tokenizer)


def test_a_template_without_an_end_of_sequence_gets_one(model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = TEMPLATE.replace("{{ eos_token }}", "!")
    problem = Problem("p", (1, 2), [{"role": "user", "content": "Q"}])
    example = sft.encode(problem, "A", tokenizer, "!\n")
    assert tokenizer.decode(example["input_ids"][2:]) == f"A!\n{tokenizer.eos_token}"
    assert example["labels"] == [-100, -100, *example["input_ids"][2:]]

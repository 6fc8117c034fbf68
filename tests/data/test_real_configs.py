"""The real configurations, read to the last key, with local rows in the format of their data sets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from r1rl.config.load import load_config
from r1rl.data.overlap import ensure_disjoint
from r1rl.data.problems import load_problems

ROOT = Path(__file__).parents[2]
GSM8K = [
    {"question": f"What is {i} plus 5?", "answer": f"It is {i}+5 = <<{i}+5={i + 5}>>{i + 5}.\n#### {i + 5}"}
    for i in range(4)
]
COUNTDOWN = [{"target": 36 + i, "nums": [79, 17, 60]} for i in range(4)]
MATH = [
    {"problem": f"Compute ${i}/2$.", "solution": "…", "answer": rf"\frac{{{i}}}{{2}}", "level": 1} for i in range(4)
]


@pytest.mark.parametrize(
    ("folder", "train", "held_out", "rows", "question", "gold", "opening"),
    [
        ("gsm8k-qwen2.5-0.5b", "gsm8k", "gsm8k", GSM8K, "User: What is 0 plus 5?\nAssistant:", "5", " <think>"),
        ("countdown-qwen2.5-3b", "countdown", "countdown", COUNTDOWN, "numbers [79, 17, 60]", "36", " <think>"),
        ("math-qwen2.5-7b", "math", "math500", MATH, "Compute $0/2$.", r"\frac{0}{2}", ""),
    ],
)
def test_local_rows_by_override(tmp_path, make_tokenizer, folder, train, held_out, rows, question, gold, opening):
    paths = {}
    for part, chosen in (("train", rows[:3]), ("eval", rows[3:])):
        paths[part] = tmp_path / f"{part}.jsonl"
        paths[part].write_text("".join(json.dumps(row) + "\n" for row in chosen))
    run = load_config(
        ROOT / "configs" / folder / "zero.yaml",
        [
            f"data.train.{train}.path={paths['train']}",
            f"data.eval.{held_out}.path={paths['eval']}",
            f"data.eval.{held_out}.skip=0",
            "data.prompt.max_tokens=4096",
        ],
    )
    tokenizer = make_tokenizer()
    problems = load_problems(run.data.train, run.data.prompt, tokenizer)
    evaluation = load_problems(run.data.eval, run.data.prompt, tokenizer)
    assert len(ensure_disjoint(problems, evaluation, "error")) == 3
    assert len(evaluation) == 1
    first = problems.problems[0]
    assert question in first.prompt
    assert first.columns["answer"] == gold
    assert first.prefill == opening
    assert set(rows[0]) <= set(first.columns)


def test_countdown_can_be_generated_instead(make_tokenizer):
    run = load_config(
        ROOT / "configs" / "countdown-qwen2.5-3b" / "zero.yaml",
        [
            "data.train.countdown.path=generated:countdown",
            "data.train.countdown.args={size: 50}",
            "data.eval.countdown.path=generated:countdown",
            "data.eval.countdown.args={size: 10, split: test}",
            "data.eval.countdown.skip=0",
            "data.prompt.max_tokens=4096",
        ],
    )
    tokenizer = make_tokenizer()
    sets = [load_problems(part, run.data.prompt, tokenizer) for part in (run.data.train, run.data.eval)]
    assert [len(part) for part in sets] == [50, 10]
    assert len(ensure_disjoint(*sets, "error")) == 50

"""A reward model learns a preference that can be learnt, and the reward of the same name reads it."""

from __future__ import annotations

import json
from collections import Counter
from itertools import compress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from r1rl.errors import DataError
from r1rl.model.load import load_tokenizer
from r1rl.scoring.load import REWARDS, bind
from r1rl.stages import reward_model
from r1rl.types import Problem

PLAN = """
name: plan
threads: 1
device: cpu
stages: {{ prefer: {{ kind: reward_model, model: {model} }} }}
data:
  train: {{ pairs: {{ path: generated:bilingual_preferences, args: {{ size: 160, aspect: help }} }} }}
  prompt: {{ template: r1_zero, system: "", max_tokens: 64 }}
reward_model: {{ part: summary, epochs: 3, learning_rate: 5e-3, batch_size: 16, micro_batch_size: 16, max_tokens: 200 }}
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
    score = bind("helpful", REWARDS.load("reward_model"), {"model": str(ctx.folder / "model"), "part": "summary"})
    kind, curt, spite = score(prompts=[PROMPT] * 3, completions=[KIND.format("a"), CURT.format("a"), KIND.format("b")])
    assert kind > curt
    assert kind == pytest.approx(spite)  # the thought is no part of it


def test_pairs_without_a_text(stages: Any, tiny: Path) -> None:
    ctx = stages(PLAN.format(model=tiny), "prefer", "reward_model.rejected=worse")
    with pytest.raises(DataError, match=r"reward_model\.chosen and rejected"):
        reward_model.run(ctx)


@pytest.mark.parametrize("part", ["eval", "held_out"])
def test_what_is_evaluated_is_not_learnt(stages: Any, tiny: Path, part: str) -> None:
    same = "{path: generated:bilingual_preferences, args: {size: 160, aspect: help}, limit: 1}"
    ctx = stages(PLAN.format(model=tiny), "prefer", f"data.{part}.same={same}")
    tokenizer = load_tokenizer(ctx.config.model)
    with pytest.raises(DataError, match=r"training questions are also evaluation questions, .* \(pairs and same\)"):
        reward_model.read_pairs(ctx, tokenizer)
    ctx.config.data.on_overlap = "drop"
    pairs, _, skipped = reward_model.read_pairs(ctx, tokenizer)
    assert skipped["overlap"] > 0
    assert len(pairs) == 160 - sum(skipped.values())


def pairs_of(**sizes: int) -> list[Problem]:
    return [
        Problem(f"{source}-{i}", (), "", {"question": f"{source} {i}"}, source)
        for source, size in sizes.items()
        for i in range(size)
    ]


def held_by_source(problems: list[Problem], share: float, seed: int = 0) -> Counter[str]:
    return Counter(p.source for p in compress(problems, reward_model.held_out(problems, share, seed)))


def test_every_source_gives_its_share_to_measure_on() -> None:
    problems = pairs_of(safety=20, help=100)
    assert held_by_source(problems, 0.1) == {"safety": 2, "help": 10}
    assert held_by_source(problems, 0.0) == {}
    chosen = reward_model.held_out(problems, 0.1, seed=0)
    assert chosen == reward_model.held_out(problems, 0.1, seed=0) != reward_model.held_out(problems, 0.1, seed=1)
    first = list(compress(range(20), chosen))
    assert first != [0, 1]


def test_small_sources_are_trained_on() -> None:
    assert held_by_source(pairs_of(safety=4, help=36), 0.1) == {"help": 4}
    ones = pairs_of(**{f"s{i}": 1 for i in range(10)}, help=10)
    assert set(held_by_source(ones, 0.9)) == {"help"}
    assert held_by_source(ones, 0.9)["help"] < 10


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), min_size=1), st.floats(0, 0.99))
def test_pairs_of_a_question_stand_on_one_side(drawn: list[tuple[str, int]], share: float) -> None:
    problems = [Problem(str(i), (), "", {"question": f"Q {n}"}, source) for i, (source, n) in enumerate(drawn)]
    is_held = reward_model.held_out(problems, share, seed=0)
    asked = [problem.columns["question"] for problem in problems]
    assert not set(compress(asked, is_held)) & set(compress(asked, [not each for each in is_held]))
    assert not all(is_held)


def test_the_first_update_learns(stages: Any, tiny: Path) -> None:
    overrides = ("reward_model.warmup_ratio=0.5", "reward_model.epochs=1", "reward_model.batch_size=48")
    ctx = stages(PLAN.format(model=tiny), "prefer", *overrides)
    reward_model.run(ctx)
    lines = (ctx.folder / "metrics.jsonl").read_text().splitlines()
    rates = [row["reward_model/lr"] for row in map(json.loads, lines) if "reward_model/lr" in row]
    assert rates[0] == pytest.approx(5e-3 / 2)


def test_it_trains_adapters_and_leaves_a_whole_model(stages: Any, tiny: Path) -> None:
    pytest.importorskip("peft", reason="pip install 'r1rl[lora]'")
    overrides = ("model.lora.rank=2", "reward_model.epochs=1", "reward_model.checkpoint_every=0")
    ctx = stages(PLAN.format(model=tiny), "prefer", *overrides)
    seen: list[tuple[int, int]] = []
    build = reward_model.WarmRewardTrainer.train

    def train(self: Any, *args: Any, **kwargs: Any) -> Any:
        sizes = [(p.numel(), p.requires_grad, name) for name, p in self.model.named_parameters()]
        seen.append((sum(n for n, on, _ in sizes if on), sum(n for n, *_ in sizes)))
        assert {name.rpartition(".")[0].rpartition(".")[2] for _, on, name in sizes if on} == {"default"}
        return build(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reward_model.WarmRewardTrainer, "train", train)
        reward_model.run(ctx)
    assert seen[0][0] < seen[0][1] / 4
    scorer = AutoModelForSequenceClassification.from_pretrained(ctx.folder / "model")
    base = AutoModelForCausalLM.from_pretrained(tiny)
    moved = scorer.model.layers[0].self_attn.q_proj.weight - base.model.layers[0].self_attn.q_proj.weight
    assert 0 < torch.linalg.matrix_rank(moved.float(), rtol=1e-3) <= 2
    assert not any("lora" in name for name, _ in scorer.named_parameters())


def test_a_thought_is_learnt_where_the_template_cuts_thoughts(stages: Any, tiny: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content.split('</think>')[-1] }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}assistant: <think>\n{% endif %}"
    )
    rows = [
        {"question": "1+1?", "chosen": "<think>one</think>2", "rejected": "<think>I hate you</think>2"},
        {"question": "1+2?", "chosen": "one and two</think>3", "rejected": "3"},
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    talk = json.dumps({"path": str(tmp_path / "pairs.jsonl"), "prompt": {"template": "chat"}})
    ctx = stages(PLAN.format(model=tiny), "prefer", f"data.train={{pairs: {talk}}}", "reward_model.part=response")
    pairs, _, skipped = reward_model.read_pairs(ctx, tokenizer)
    assert not skipped
    end = tokenizer.eos_token
    texts = [{name: tokenizer.decode(ids) for name, ids in pair.items()} for pair in pairs]
    first, second = (f"user: {row['question']}{end}assistant: <think>" for row in rows)
    assert texts[0] == {"chosen_ids": f"{first}one</think>2{end}", "rejected_ids": f"{first}I hate you</think>2{end}"}
    assert texts[1]["chosen_ids"] == f"{second}\none and two</think>3{end}"

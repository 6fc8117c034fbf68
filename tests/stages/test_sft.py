"""Fine-tuning: what is learnt from, that packing changes nothing, that a killed run resumes."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from r1rl.errors import ConfigError, DataError
from r1rl.files import clear
from r1rl.model.attention import Packed, positions
from r1rl.model.load import load_policy
from r1rl.stages import sft
from r1rl.stages.trl_bridge import newest_whole

PLAN = """
name: plan
threads: 1
device: cpu
stages: {{ tune: {{ kind: sft, model: {model}, data: {data} }} }}
data: {{ prompt: {{ template: r1_zero, system: "", max_tokens: 64 }} }}
sft: {{ epochs: 2, learning_rate: 1e-2, batch_size: 2, max_tokens: 96, checkpoint_every: 2 }}
tracking: {{ console: false }}
"""


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    values = [
        {"question": f"What is {a}+{a}?", "response": f" <think>{a}+{a}={2 * a} done</think> {2 * a}"}
        for a in range(12)
    ]
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def test_loss_stands_on_the_response_alone(stages: Any, tiny: Path, rows: Path) -> None:
    ctx = stages(PLAN.format(model=tiny, data=rows), "tune")
    tokenizer = load_policy(ctx.config.model, torch.device("cpu")).tokenizer
    examples, skipped = sft.read_examples(ctx, tokenizer)
    assert not skipped
    learnt = [label for label in examples[3]["labels"] if label != -100]
    assert tokenizer.decode(learnt) == " <think>3+3=6 done</think> 6" + tokenizer.eos_token
    hidden = examples[3]["input_ids"][: -len(learnt)]
    assert tokenizer.decode(hidden) == "User: What is 3+3?\nAssistant:"


def test_a_prefilled_tag_is_not_learnt_twice(stages: Any, tiny: Path, rows: Path) -> None:
    ctx = stages(PLAN.format(model=tiny, data=rows), "tune", "data.prompt.prefill= <think>")
    tokenizer = load_policy(ctx.config.model, torch.device("cpu")).tokenizer
    example = sft.read_examples(ctx, tokenizer)[0][3]
    assert tokenizer.decode(example["input_ids"]).count("<think>") == 1
    assert "<think>" not in tokenizer.decode([label for label in example["labels"] if label != -100])


@pytest.mark.parametrize("opening", [" <think>", " <think>\\n"])
def test_a_response_without_a_thought_closes_an_empty_one(
    stages: Any, tiny: Path, tmp_path: Path, opening: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    responses = [" Hello 2", "<think>two</think> 2", "two</think> 2", "<think>cut off"]
    path = tmp_path / "mixed.jsonl"
    path.write_text("".join(json.dumps({"question": f"Q{i}", "response": r}) + "\n" for i, r in enumerate(responses)))
    ctx = stages(PLAN.format(model=tiny, data=path), "tune", f'data.prompt.prefill="{opening}"')
    tokenizer = load_policy(ctx.config.model, torch.device("cpu")).tokenizer
    texts = [
        tokenizer.decode(e["input_ids"]).removesuffix(tokenizer.eos_token) for e in sft.read_examples(ctx, tokenizer)[0]
    ]
    written = opening.replace("\\n", "\n")
    assert [text.partition("Assistant:")[2] for text in texts] == [
        " <think>\n\n</think>\n\nHello 2",
        f"{written}two</think> 2",
        f"{written}two</think> 2",
        f"{written}cut off",
    ]
    assert "1 responses have no thought" in caplog.text


def test_a_thought_that_the_template_closed_is_not_closed_again(stages: Any, tiny: Path, rows: Path) -> None:
    rows.write_text('{"question": "Hi", "response": "Hello"}\n')
    ctx = stages(PLAN.format(model=tiny, data=rows), "tune", 'data.prompt.prefill="<think>\\n\\n</think>\\n\\n"')
    tokenizer = load_policy(ctx.config.model, torch.device("cpu")).tokenizer
    (example,) = sft.read_examples(ctx, tokenizer)[0]
    assert tokenizer.decode(example["input_ids"]).count("</think>") == 1


def test_bad_rows(stages: Any, tiny: Path, rows: Path) -> None:
    with rows.open("a") as stream:
        stream.write('{"question": "What is 1+1?"}\n{"question": broken\n')
    plan = PLAN.format(model=tiny, data=rows)
    ctx = stages(plan, "tune")
    tokenizer = load_policy(ctx.config.model, torch.device("cpu")).tokenizer
    with pytest.raises(DataError, match="line 14 is corrupt"):
        sft.read_examples(ctx, tokenizer)
    ctx.config.data.train["rows"].on_bad_row = "skip"
    examples, skipped = sft.read_examples(ctx, tokenizer)
    assert len(examples) == 12
    assert skipped == {"corrupt": 1, "bad_row": 1}


def test_half_a_character_is_a_bad_row(stages: Any, tiny: Path, rows: Path) -> None:
    with rows.open("a") as stream:
        stream.write(json.dumps({"question": "What is 1+1?", "response": "2 \ud83d"}) + "\n")
    ctx = stages(PLAN.format(model=tiny, data=rows), "tune")
    tokenizer = load_policy(ctx.config.model, torch.device("cpu")).tokenizer
    with pytest.raises(DataError, match="line 13: column 'response' contains a lone surrogate"):
        sft.read_examples(ctx, tokenizer)
    ctx.config.data.train["rows"].on_bad_row = "skip"
    examples, skipped = sft.read_examples(ctx, tokenizer)
    assert (len(examples), skipped) == (12, {"bad_row": 1})


@pytest.mark.parametrize("part", ["eval", "held_out"])
def test_what_is_evaluated_is_not_learnt(stages: Any, tiny: Path, rows: Path, tmp_path: Path, part: str) -> None:
    asked = tmp_path / "asked.jsonl"
    asked.write_text('{"problem": "what is  3+3?"}\n{"problem": "What is 99+1?"}\n{"problem": null}\n')
    held_out = f"data.{part}.asked={{path: {asked}, question: problem}}"
    ctx = stages(PLAN.format(model=tiny, data=rows), "tune", held_out)
    tokenizer = load_policy(ctx.config.model, torch.device("cpu")).tokenizer
    with pytest.raises(
        DataError, match=r"1 of 12 training questions .* 'what is 3\+3\?' \(rows and asked\); change the"
    ):
        sft.read_examples(ctx, tokenizer)
    ctx.config.data.on_overlap = "drop"
    examples, skipped = sft.read_examples(ctx, tokenizer)
    assert len(examples) == 11
    assert skipped == {"overlap": 1}
    assert not any("3+3" in tokenizer.decode(example["input_ids"]) for example in examples)


def test_packed_loss_and_gradient_equal_those_of_single_examples(stages: Any, tiny: Path, rows: Path) -> None:
    ctx = stages(PLAN.format(model=tiny, data=rows), "tune")
    policy = load_policy(ctx.config.model, torch.device("cpu"))
    examples = sft.read_examples(ctx, policy.tokenizer)[0]

    def summed(rows: list[dict[str, list[int]]]) -> torch.Tensor:
        lengths = tuple(len(row["input_ids"]) for row in rows)
        ids = torch.tensor([[token for row in rows for token in row["input_ids"]]])
        labels = torch.tensor([label for row in rows for label in [-100, *row["labels"][1:]]])
        where = positions(lengths, ids.device)
        logits = policy.model(input_ids=ids, position_ids=where, layout=Packed(lengths), use_cache=False).logits[0]
        return torch.nn.functional.cross_entropy(logits[:-1], labels[1:], ignore_index=-100, reduction="sum")

    alone = torch.stack([summed([row]) for row in examples]).sum()
    torch.testing.assert_close(summed(examples), alone, rtol=1e-5, atol=1e-4)


def trained(stages: Any, tiny: Path, rows: Path, *overrides: str) -> Path:
    ctx = stages(PLAN.format(model=tiny, data=rows), "tune", *overrides)
    torch.set_num_threads(1)
    result = sft.run(ctx)
    assert result.model is not None
    return result.model


def test_it_learns_and_opens_again(stages: Any, tiny: Path, rows: Path) -> None:
    ctx = stages(PLAN.format(model=tiny, data=rows), "tune", "sft.epochs=6")
    result = sft.run(ctx)
    metrics = result.metrics
    logged = [json.loads(line) for line in (ctx.folder / "metrics.jsonl").read_text().splitlines()]
    assert logged[-1]["sft/loss"] < 0.7 * logged[0]["sft/loss"]
    assert metrics["examples"] == 12
    assert load_policy(ctx.config.model.model_copy(update={"path": str(ctx.folder / "model")}), torch.device("cpu"))
    assert newest_whole(ctx.folder / "checkpoints") is not None  # until the run has noted that the stage is done
    assert result.spent is not None
    clear(result.spent)
    assert not (ctx.folder / "checkpoints").exists()


def test_a_resumed_run_equals_the_uninterrupted_one(stages: Any, tiny: Path, rows: Path, tmp_path: Path) -> None:
    whole = load_file(trained(stages, tiny, rows) / "model.safetensors")
    shutil.rmtree(tmp_path / "tune")

    class Killed(Exception):
        pass

    def kill(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 3:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("r1rl.stages.trl_bridge.Bridge.on_step_end", kill, raising=False)
        with pytest.raises(Killed):
            trained(stages, tiny, rows)
    kept = newest_whole(tmp_path / "tune" / "checkpoints")
    assert kept is not None
    (tmp_path / "tune" / "checkpoints" / "checkpoint-3").mkdir()  # cut off by the kill
    resumed = load_file(trained(stages, tiny, rows) / "model.safetensors")
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=0)
    steps = [json.loads(line)["step"] for line in (tmp_path / "tune" / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))


def test_a_batch_that_does_not_divide(stages: Any, tiny: Path, rows: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size 3 does not divide"):
        trained(stages, tiny, rows, "sft.batch_size=3", "sft.micro_batch_size=2")


def test_adapters_are_merged_into_what_is_left(stages: Any, tiny: Path, rows: Path) -> None:
    model = trained(stages, tiny, rows, "model.lora={rank: 4, alpha: 8}", "sft.checkpoint_every=1")
    before, after = load_file(tiny / "model.safetensors"), load_file(model / "model.safetensors")
    assert set(before) == set(after)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "_proj.weight" in name}


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_first_update_learns(stages: Any, tiny: Path, rows: Path, schedule: str) -> None:
    overrides = (f"sft.lr_scheduler_type={schedule}", "sft.warmup_ratio=0.5", "sft.packing=false", "sft.epochs=1")
    ctx = stages(PLAN.format(model=tiny, data=rows), "tune", *overrides)
    sft.run(ctx)
    lines = (ctx.folder / "metrics.jsonl").read_text().splitlines()
    rates = [row["sft/lr"] for row in map(json.loads, lines) if "sft/lr" in row]
    assert rates[:3] == pytest.approx([1e-2 / 3, 2e-2 / 3, 1e-2])
    assert len(rates) == 6
    assert 0 < rates[-1] <= 1e-2

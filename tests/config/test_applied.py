"""Which rewards run on which source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from r1rl.config import load_config, stage_config
from r1rl.config.applied import idle, training_applies, training_rewards
from r1rl.config.derived import notes

Write = Callable[..., Path]


@pytest.mark.parametrize("listed", ["[accuracy]", "[accuracy, soft_overlong]"])
def test_the_length_penalty_applies_to_every_source(write: Write, listed: str) -> None:
    run = load_config(write("grpo: {overlong_buffer: 64}\n"), [f"data.train.gsm8k.rewards={listed}"])
    view = stage_config(run, "grpo")
    assert training_applies(view) == {"gsm8k": ["accuracy", "soft_overlong"]}
    penalty = training_rewards(view)["soft_overlong"]
    assert (penalty.weight, penalty.args) == (1.0, {"max_length": 1024, "buffer": 64})


def test_stages_that_do_not_train_may_list_the_length_penalty(write: Write) -> None:
    source = "{path: gsm8k, rewards: [accuracy, soft_overlong]}"
    text = f"data: {{train: {{a: {source}}}, eval: {{e: {source}}}}}\nmodel: gpt2\nrewards: {{accuracy: 1.0}}\n"
    stages = "stages:\n  draw: {kind: sample}\n  rl: {kind: grpo, grpo: {overlong_buffer: 8}}\n"
    load_config(write(text + stages + "  measure: {kind: evaluate, model: rl}\n", base=""))


def test_one_name_may_stand_for_both_splits(write: Write) -> None:
    """Evaluation's list of rewards used to take the place of the training source's."""
    run = load_config(
        write(),
        [
            "rewards={accuracy: 1, format: 1}",
            "data.train.gsm8k.rewards=[accuracy, format]",
            "data.eval.gsm8k={path: gsm8k, split: test, rewards: [format]}",
        ],
    )
    assert training_applies(stage_config(run, "grpo")) == {"gsm8k": ["accuracy", "format"], "eval/gsm8k": ["format"]}


def test_a_reward_that_rests_in_one_stage_is_a_note(write: Write) -> None:
    stages = "stages:\n  a: {kind: grpo, data: {train: {gsm8k: {rewards: [accuracy]}}}}\n  b: {kind: grpo, model: a}\n"
    run = load_config(write(stages), ["rewards.format=1"])
    view = stage_config(run, "a")
    assert idle(view.rewards, training_applies(view)) == ["format"]
    assert "reward format does not run in this stage: no source of it lists it" in list(notes(view))
    assert not [note for note in notes(stage_config(run, "b")) if "format" in note]

"""What an unknown key of TRL, open-r1 or verl is answered with."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from r1rl.config import RunConfig, load_config
from r1rl.config.elsewhere import OPEN_R1, SCRIPT, TABLES, TRAINERS, TRL, VERL
from r1rl.config.walk import sections
from r1rl.errors import ConfigError

Write = Callable[..., Path]
KEYS = {f"{path}.{name}".lstrip(".") for path, section, _ in sections(RunConfig) for name in section.model_fields}
NAMED = re.compile(r"`((?:SECTION|grpo|sft|rollout|model|data|rewards|evaluate|stages)\.[\w.]+)`")


def answer(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value)


def test_every_field_of_trls_config_is_answered_and_no_other() -> None:
    trl = pytest.importorskip("trl", reason="pip install 'r1rl[trl]'")
    assert set(TRL) == {field.name for field in dataclasses.fields(trl.GRPOConfig)}
    for config in (trl.SFTConfig, trl.RewardConfig):
        assert set(TRAINERS) <= {field.name for field in dataclasses.fields(config)}
    theirs = {field.name for config in (trl.ModelConfig, trl.ScriptArguments) for field in dataclasses.fields(config)}
    earlier = {"torch_dtype", "max_prompt_length", "warmup_ratio", "dataset_mixture"}
    assert set(SCRIPT) - earlier - {"train_dataset", "eval_dataset", "reward_funcs", "rollout_func"} <= theirs
    assert not set(OPEN_R1) & (set(TRL) | set(SCRIPT))


@pytest.mark.parametrize("title", TABLES)
def test_what_is_ours_is_a_key_and_what_is_not_has_a_reason(title: str) -> None:
    for name, (ours, note) in TABLES[title].items():
        assert ours or note, name
        for section in ("sft", "reward_model"):
            keys = [*filter(None, ours.split(", ")), *NAMED.findall(note)]
            assert {key.replace("SECTION", section) for key in keys} <= KEYS, name


def test_a_key_that_we_have_under_their_name_is_said_to_be_ours() -> None:
    last = {key.rpartition(".")[2] for key in KEYS}
    for table in (TRL, SCRIPT, OPEN_R1):
        assert not [name for name, entry in table.items() if name in last and not entry.ours]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("num_generations=8", "unknown key num_generations (TRL's num_generations is rollout.group_size here)"),
        ("grpo.num_generations=8", "(TRL's num_generations is rollout.group_size here)"),
        ("learning_rate=1e-6", "(did you mean grpo.learning_rate or "),
        ("report_to=wandb", "(did you mean tracking.report_to?)"),
        ("beta=0.1", "(did you mean grpo.beta?)"),
        ("lr=1e-6", "(did you mean grpo.learning_rate or "),
        ("per_device_train_batch_size=8", "follows from grpo.tokens_per_microbatch"),
        ("gradient_accumulation_steps=8", "follows from grpo.tokens_per_microbatch"),
        ("sft.gradient_accumulation_steps=8", "follows from sft.batch_size"),
        ("stages.warm.sft.num_train_epochs=8", "(TRL's num_train_epochs is sft.epochs here)"),
        ("num_train_epochs=8", "set grpo.steps"),
        ("max_completion_length=8", "rollout.max_new_tokens"),
        ("grpo.epsilon_high=0.3", "(TRL's epsilon_high is grpo.clip_high here; "),
        ("vllm_mode=server", "rollout.vllm.mode"),
        ("rollout.vllm_mode=server", "rollout.vllm.mode"),
        ("reward_funcs=[accuracy]", "rewards.NAME.function"),
        ("logging_steps=8", "every step is logged"),
        ("save_steps=8", "grpo.checkpoint_every"),
        ("pad_to_multiple_of=8", "(TRL's pad_to_multiple_of: nothing is padded)"),
        ("system_prompt=Think", "(open-r1's system_prompt is data.prompt.system here)"),
        ("rollout.n=8", "(verl's actor_rollout_ref.rollout.n is rollout.group_size here)"),
        ("actor.ppo_mini_batch_size=8", "grpo.minibatches"),
        ("grpo.ppo_epochs=8", "(verl's actor_rollout_ref.actor.ppo_epochs is grpo.epochs here)"),
        ("data.train_batch_size=8", "rollout.prompts_per_step"),
        ("actor_rollout_ref.rollout.n=8", "unknown key actor_rollout_ref (verl's actor_rollout_ref.rollout.n is "),
        (
            "trainer={save_freq: 3, nnodes: 2}",
            "grpo.checkpoint_every here; verl's trainer.nnodes is stages.NAME.launch",
        ),
        ("actor_rollout_ref.actor.other=1", "(verl's actor_rollout_ref: "),
        ("critic.optim.lr=1", "(verl's critic: GRPO has no critic)"),
    ],
)
def test_answers(write: Write, override: str, expected: str) -> None:
    text = answer(write("stages: {warm: {kind: sft}, zero: {kind: grpo}}\n"), override)
    assert expected in text
    assert text.startswith(f"override {override}: unknown key ")


def test_the_line_of_a_file_is_named(write: Write) -> None:
    path = write("actor_rollout_ref:\n  actor:\n    ppo_epochs: 2\n")
    assert answer(path) == (
        f"{path}:6: unknown key actor_rollout_ref (verl's actor_rollout_ref.actor.ppo_epochs is grpo.epochs here)"
    )


def test_verls_keys_are_whole_paths() -> None:
    roots = {"actor_rollout_ref", "algorithm", "critic", "custom_reward_function", "data", "trainer"}
    assert {key.split(".")[0] for key in VERL} == roots

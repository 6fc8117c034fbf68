"""Former names of keys: read in files, overrides and stages, with one line of notice."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from r1rl.config import GRPOConfig, RunConfig, dump_config, load_config, stage_config
from r1rl.config.merge import deep_merge
from r1rl.config.renamed import RENAMED
from r1rl.errors import ConfigError
from r1rl.files import claim

Write = Callable[..., Path]
VALUES = {
    "function": "format", "scale_rewards": "none", "lr_scheduler_type": "linear", "enable_sleep_mode": False,
    "gpu_memory_utilization": 0.3, "center_rewards_coefficient": 0.5, "learning_rate": 0.5,
}  # fmt: skip
"""Not the defaults; 2 for the other keys."""
BASE = {
    "model": "gpt2",
    "data": {"train": {"gsm8k": {"path": "x"}}, "eval": {"gsm8k": {"path": "x"}}},
    "rewards": {"accuracy": {"weight": 1}},
    "rollout": {"vllm": {"mode": "server"}},  # colocated, tensor_parallel_size has to be 1
}
CASES = sorted((former, name) for former, name in RENAMED.items())


def nested(key: tuple[str, ...], value: Any) -> dict[str, Any]:
    for part in reversed(key):
        value = {part.replace("NAME", "accuracy"): value}
    return dict(value)


def dotted(key: tuple[str, ...]) -> str:
    return ".".join(key).replace("NAME", "accuracy")


def test_the_list_of_renamed_keys() -> None:
    assert {f"{'.'.join(former)} → {name}" for former, name in RENAMED.items()} == {
        "evaluate.batch → batch_size",
        "grpo.lr → learning_rate",
        "grpo.lr_schedule → lr_scheduler_type",
        "grpo.scale → scale_rewards",
        "pretrain.lr → learning_rate",
        "reward_model.batch → batch_size",
        "reward_model.center → center_rewards_coefficient",
        "reward_model.lr → learning_rate",
        "reward_model.micro_batch → micro_batch_size",
        "rewards.NAME.use → function",
        "rollout.prompts → prompts_per_step",
        "rollout.vllm.gpu_memory → gpu_memory_utilization",
        "rollout.vllm.sleep → enable_sleep_mode",
        "rollout.vllm.tensor_parallel → tensor_parallel_size",
        "sft.batch → batch_size",
        "sft.lr → learning_rate",
        "sft.lr_schedule → lr_scheduler_type",
        "sft.micro_batch → micro_batch_size",
    }


@pytest.mark.parametrize(("former", "name"), CASES, ids=[".".join(former) for former, _ in CASES])
def test_each_is_read_in_files_overrides_and_stages(
    write: Write, former: tuple[str, ...], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    value, now = VALUES.get(name, 2), (*former[:-1], name)
    kind = former[0] if former[0] not in ("rewards", "rollout") else "grpo"

    def load(sections: dict[str, Any], stage: dict[str, Any], *overrides: str) -> RunConfig:
        plan = deep_merge(BASE, {**sections, "stages": {"only": {"kind": kind, **stage}}})
        return load_config(write(yaml.safe_dump(plan), base=""), overrides)

    expected = load(nested(now, value), {})
    in_stage = stage_config(load({}, nested(now, value)), "only")
    assert expected != load({}, {})
    assert not caplog.records
    assert load(nested(former, value), {}) == expected
    assert load({}, {}, f"{dotted(former)}={yaml.safe_dump(value).splitlines()[0]}") == expected
    assert stage_config(load({}, nested(former, value)), "only") == in_stage
    notices = [record.getMessage() for record in caplog.records]
    assert len(notices) == 3
    assert all(f"{dotted(former)} is called " in line and f"{dotted(now)} now" in line for line in notices)


def test_the_notice_is_one_line_and_names_the_place(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    path = write("grpo:\n  lr: 1e-4\n")
    load_config(path, ["rollout.prompts=4"])
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (
            logging.WARNING,
            f"{path}:7: grpo.lr is called grpo.learning_rate now; override rollout.prompts=4: rollout.prompts is "
            "called rollout.prompts_per_step now; the next version rejects the former names",
        )
    ]


def test_both_names_are_an_error(write: Write) -> None:
    both = "is the former name of grpo.learning_rate, which is given too"
    path = write("grpo:\n  lr: 1e-4\n  learning_rate: 1e-4\n")
    with pytest.raises(ConfigError, match=rf"run.yaml:7: grpo.lr {both} \(.*run.yaml:8\); remove grpo.lr"):
        load_config(path)
    with pytest.raises(ConfigError, match=rf"override grpo.lr=1: grpo.lr {both}"):
        load_config(write(), ["grpo.lr=1", "grpo.learning_rate=1"])
    with pytest.raises(ConfigError, match=r"former name of stages\.a\.grpo\.learning_rate"):
        load_config(write("stages: {a: {kind: grpo, grpo: {lr: 1e-4, learning_rate: 1e-4}}}\n"))
    with pytest.raises(ValueError, match="lr is the former name of learning_rate: give learning_rate alone"):
        GRPOConfig.model_validate({"lr": 1e-4, "learning_rate": 1e-4})


def test_layers_may_differ_in_their_names(write: Write) -> None:
    write("grpo: {lr: 1e-3}\n", name="base.yaml")
    path = write("extends: base.yaml\ngrpo: {learning_rate: 2e-3}\nstages: {a: {kind: grpo}}\n", base="")
    assert load_config(path).grpo.learning_rate == 2e-3
    assert load_config(path, ["grpo.lr=3e-3"]).grpo.learning_rate == 3e-3
    assert stage_config(load_config(path, ["stages.a.grpo.lr=4e-3"]), "a").grpo.learning_rate == 4e-3


def test_errors_name_the_key_and_its_line(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"run.yaml:7: grpo.learning_rate should be a valid number"):
        load_config(write("grpo:\n  lr: x\n"))


def test_text_stays_text(write: Write) -> None:
    run = load_config(write(), ["rewards.mine.use=007", "rewards.mine.weight=1"])
    assert run.rewards["mine"].function == "007"


def test_the_configuration_of_a_run_folder_needs_no_notice(
    write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = load_config(write("grpo: {learning_rate: 1e-4}\nstages: {a: {kind: grpo, rollout: {prompts_per_step: 2}}}\n"))
    folder = tmp_path / "runs" / "run"
    claim(folder)
    dump_config(run, folder / "config.yaml")
    text = (folder / "config.yaml").read_text()
    old = text.replace("learning_rate:", "lr:").replace("prompts_per_step:", "prompts:")
    assert old != text
    expected = load_config(folder / "config.yaml")
    (folder / "config.yaml").write_text(old)
    found = load_config(folder / "config.yaml")
    assert found == expected
    assert stage_config(found, "a") == stage_config(expected, "a")
    assert not caplog.records


def test_sections_made_in_python_warn() -> None:
    with pytest.warns(DeprecationWarning, match="GRPOConfig: lr is called learning_rate now"):
        run = RunConfig.model_validate({"grpo": {"lr": 1e-4}})
    assert run == RunConfig.model_validate({"grpo": {"learning_rate": 1e-4}})

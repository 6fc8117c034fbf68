"""What a person sees when the configuration is wrong: the key, the place, the way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from r1rl.config import load_config
from r1rl.errors import ConfigError

Write = Callable[..., Path]


def message(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (
            "grpo:\n  steps: 3\n  stepz: 1\n",
            "run.yaml:8: unknown key grpo.stepz (nearest: grpo.steps)",
        ),
        (
            "grpo:\n  num_generations: 8\n",
            "run.yaml:7: unknown key grpo.num_generations (TRL's num_generations is rollout.group_size here)",
        ),
        ("group_size: 8\n", "run.yaml:6: unknown key group_size (did you mean rollout.group_size?)"),
        ("grpo:\n  steps: many\n", "run.yaml:7: grpo.steps should be a valid integer"),
        ("grpo:\n  algorithm: ppo\n", "run.yaml:7: grpo.algorithm should be 'r1', 'dr_grpo'"),
        ("grpo:\n  learning_rate: true\n", "run.yaml:7: grpo.learning_rate should be a number, got True"),
        ("threads: false\n", "run.yaml:6: threads should be a number, got False"),
        ("grpo: 3\n", "run.yaml:6: grpo should be a valid dictionary"),
        ("grpo:\n  learning_rate: .inf\n", "run.yaml:7: grpo.learning_rate should be a finite number"),
        (
            "tracking:\n  report_to: [wandb, comet]\n",
            "run.yaml:7: tracking.report_to.1 names no tracker; it is one of wandb, ",
        ),
        ("model_name_or_path: x\n", "(TRL's model_name_or_path is model.path here)"),
        ("seed: -1\n", "run.yaml:6: seed should be greater than or equal to 0, got -1"),
        ("seed: 4294967296\n", "run.yaml:6: seed should be less than 4294967296"),
        ("seed: {a: {b}}\n", "run.yaml:6: seed should be a valid integer, got {'a': {'b': None}}"),
    ],
)
def test_keys(write: Write, more: str, expected: str) -> None:
    assert expected in message(write(more))


def test_everything_wrong_is_named_at_once(write: Write) -> None:
    text = message(write("seeds: 1\ngrpo: {learning_rate: x}\n"))
    assert "seeds (nearest: seed)" in text
    assert "grpo.learning_rate" in text


def test_overrides_say_where_they_came_from(write: Write) -> None:
    assert "override grpo.stepz=1: unknown key grpo.stepz (nearest: grpo.steps)" in message(write(), "grpo.stepz=1")
    assert "override data.train.gsm8k.limit=x" in message(write(), "data.train.gsm8k.limit=x")
    assert "expected key=value" in message(write(), "grpo.learning_rate")
    assert "expected key=value" in message(write(), "grpo..learning_rate=1")


def test_files(write: Write, tmp_path: Path) -> None:
    assert "no such configuration file" in message(tmp_path / "none.yaml")
    assert "is a folder" in message(tmp_path)
    assert "run.yaml:7: not valid YAML" in message(write("a: [1\n"))
    assert "run.yaml:7: key seed is given twice, first on line 6" in message(write("seed: 1\nseed: 2\n"))
    assert "expected keys and values" in message(write("- a\n", base=""))
    assert "an alias that contains itself" in message(write("seed: &x [*x]\n"))
    assert "extends nowhere.yaml, but" in message(write("extends: nowhere.yaml\n"))
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00bad\x80")
    assert "cannot be read" in message(tmp_path / "bytes.yaml")


def test_an_extended_file_is_named(write: Write) -> None:
    write("grpo:\n  stepz: 1\n", name="base.yaml")
    assert "base.yaml:7: unknown key grpo.stepz" in message(write("extends: base.yaml\n", name="top.yaml", base=""))


def test_anchors_and_merge_keys_keep_their_lines(write: Write) -> None:
    text = message(write("evaluate: &e\n  samples: 2\nrollout:\n  <<: *e\n  prompts_per_step: 4\n"))
    assert "run.yaml:7: unknown key rollout.samples" in text


def test_stage_errors_name_the_stage(write: Write) -> None:
    stages = "stages:\n  zero:\n    kind: grpo\n    grpo:\n      stepz: 1\n"
    assert "run.yaml:10: unknown key stages.zero.grpo.stepz (nearest: stages.zero.grpo.steps)" in message(write(stages))
    stages = "stages:\n  zero:\n    kind: grpo\n    rollout: {group_size: 1}\n"
    assert "run.yaml:9: stages.zero.rollout.group_size: " in message(write(stages))
    assert "run.yaml:6: rollout.group_size: " in message(
        write("rollout: {group_size: 1}\nstages: {zero: {kind: grpo}}\n")
    )
    assert "stages.zero.kind is required" in message(write("stages: {zero: {}}\n"))
    assert "stages.zero.kind: no kind of stage is called 'ppo'" in message(write("stages: {zero: {kind: ppo}}\n"))
    assert "stages.zero.model" in message(write("stages: {zero: {kind: grpo, model: 3}}\n"))
    assert "unknown key stages.zero.modl (nearest: stages.zero.model)" in message(
        write("stages: {zero: {kind: grpo, modl: x}}\n")
    )
    assert "a stage's name is a folder's" in message(write("stages: {a/b: {kind: grpo}}\n"))


@pytest.mark.parametrize(
    ("overrides", "key", "why"),
    [
        (["rollout.group_size=1"], "rollout.group_size", "all zero"),
        (["rollout.top_p=0.95"], "rollout.top_p", "not off the learner's"),
        (["rollout.top_k=20"], "rollout.top_k", "not off the learner's"),
        (["grpo.minibatches=3"], "grpo.minibatches", "32 prompts × 16 completions = 512"),
        (["rollout.engine=torch", "rollout.max_staleness=1"], "rollout.max_staleness", "never stale"),
        (["rollout.max_staleness=1"], "rollout.max_staleness", "a colocated vLLM pauses"),
        (["grpo.overlong_buffer=1024"], "grpo.overlong_buffer", "below rollout.max_new_tokens"),
        (["grpo.beta=0", "grpo.guards.max_kl=1"], "grpo.guards.max_kl", "nothing to guard"),
        (["grpo.entropy_every=0", "grpo.guards.min_entropy=1"], "grpo.guards.min_entropy", "nothing to guard"),
        (["data.train.gsm8k=null"], "data.train", "no training data"),
        (["rewards.accuracy=null"], "rewards", "no reward"),
        (["rewards.accuracy=0"], "rewards", "every weight is 0"),
        (["data.train.gsm8k.rewards=[acuracy]"], "data.train.gsm8k.rewards", "configured: accuracy"),
        (["data.difficulty={min_pass_rate: 0.9, max_pass_rate: 0.1}"], "min_pass_rate", "keeps nothing"),
        (["grpo.eval_every=5"], "grpo.eval_every", "no evaluation data"),
        (["data.train.gsm8k.rewards=[soft_overlong]"], "data.train.gsm8k.rewards", "grpo.overlong_buffer, which is 0"),
        (["rewards.judge=1", "data.train.gsm8k.rewards=[accuracy]"], "rewards.judge", "never runs: no source lists it"),
        (
            ["stages={a: {kind: grpo, rewards: {judge: 1}, data: {train: {gsm8k: {rewards: [accuracy]}}}}}"],
            "stages.a.rewards.judge",
            "never runs",
        ),
        (["data.eval.e={path: e, rewards: [acuracy]}"], "data.eval.e.rewards", "configured: accuracy"),
        (
            ["grpo.dynamic_sampling=true", "rollout.dynamic_sampling.reward=acuracy"],
            "rollout.dynamic_sampling.reward",
            "configured: accuracy",
        ),
        (["model.path=''"], "model.path", "no model to start from"),
        (["name=a/b"], "name", "run folder"),
        (["stages={base: {kind: pretrain, pretrain: {model: {kv_heads: 3}}}}"], "kv_heads", "4 heads do not divide"),
        (["stages={base: {kind: pretrain, pretrain: {model: {heads: 3}}}}"], "heads", "does not divide into 3"),
        (["stages={base: {kind: pretrain, pretrain: {model: {heads: 128}}}}"], "heads", "even head size"),
        (["stages={a: {kind: grpo, model: b}, b: {kind: grpo}}"], "stages.a.model.path", "does not come before"),
        (["stages={a: {kind: evaluate}}"], "data.eval", "no evaluation data"),
    ],
)
def test_combinations(write: Write, overrides: list[str], key: str, why: str) -> None:
    text = message(write(), *overrides)
    assert key in text
    assert why in text


def test_evaluation_may_cut_the_distribution(write: Write) -> None:
    assert load_config(write(), ["evaluate.top_p=0.9", "evaluate.top_k=5"]).evaluate.top_p == 0.9

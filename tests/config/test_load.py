"""Loading, overriding, merging stages, writing back."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from r1rl.config import GRPOConfig, RunConfig, dump_config, load_config, stage_config, stages_of
from r1rl.config.grpo import PRESETS
from r1rl.errors import ConfigError

Write = Callable[..., Path]

STAGES = """
grpo: {lr: 1e-5}
data:
  train:
    gsm8k: {path: gsm8k}
  eval:
    test: {path: gsm8k, split: test}
stages:
  base: {kind: pretrain}
  zero:
    kind: grpo
    model: base
    grpo: {algorithm: dapo, lr: 2e-5}
  more:
    kind: grpo
    model: {path: zero, dtype: bfloat16}
    rewards: {accuracy: null, format: 0.5}
    data: {train: {gsm8k: null, math: {path: math}}}
  score:
    kind: evaluate
    model: more
"""


@pytest.fixture
def staged(write: Write) -> Path:
    return write(STAGES, base="model: gpt2\nrewards: {accuracy: 1.0}\n")


def test_defaults_short_forms_and_numbers(write: Write) -> None:
    run = load_config(write("grpo:\n  lr: 1e-4\n  steps: 4_000\n"))
    assert run.model.path == "gpt2"
    assert run.rewards["accuracy"].weight == 1.0
    assert (run.grpo.lr, run.grpo.steps) == (1e-4, 4000)
    assert run.rollout.group_size == 16


def test_overrides(write: Write) -> None:
    given = [
        "grpo.lr=1e-4",
        "rewards.accuracy.weight=2",
        "rewards.accuracy.args.tolerance=1e-3",
        "data.train.gsm8k.limit=100",
        "rollout.stop=['</answer>', \"x=y\"]",
        "tracking.report_to=[wandb]",
        "--seed=3",
        "model.revision=main",
    ]
    run = load_config(write(), given)
    assert run.grpo.lr == 1e-4
    assert run.rewards["accuracy"].weight == 2
    assert run.rewards["accuracy"].args == {"tolerance": 1e-3}
    assert run.data.train["gsm8k"].limit == 100
    assert run.rollout.stop == ["</answer>", "x=y"]
    assert run.tracking.report_to == ["wandb"]
    assert (run.seed, run.model.path, run.model.revision) == (3, "gpt2", "main")


def test_an_override_into_a_short_form_keeps_its_weight(write: Write) -> None:
    run = load_config(
        write(base="model: gpt2\ndata: {train: {a: {path: b}}}\nrewards: {accuracy: 0.5}\n"),
        ["rewards.accuracy.args.x=1"],
    )
    assert run.rewards["accuracy"].weight == 0.5
    assert run.rewards["accuracy"].args == {"x": 1}


def test_a_new_model_path_does_not_keep_the_old_revision(write: Write) -> None:
    path = write(
        base="model: {path: a, revision: v1, dtype: bfloat16}\ndata: {train: {a: {path: b}}}\nrewards: {r: 1}\n"
    )
    run = load_config(path, ["model=other"])
    assert (run.model.path, run.model.revision, run.model.dtype) == ("other", None, "bfloat16")
    assert load_config(path, ["model.revision=v2", "model.path=other"]).model.revision == "v2"


def test_extends(write: Write, tmp_path: Path) -> None:
    write("grpo: {lr: 1e-3, steps: 7}\nthreads: 2\n", name="base.yaml")
    (tmp_path / "sub").mkdir()
    path = write("extends: ../base.yaml\ngrpo: {steps: 9}\nthreads: null\n", name="sub/run.yaml", base="")
    run = load_config(path)
    assert (run.grpo.lr, run.grpo.steps, run.threads, run.model.path) == (1e-3, 9, None, "gpt2")


def test_extends_itself(write: Write) -> None:
    write("extends: b.yaml\n", name="a.yaml")
    with pytest.raises(ConfigError, match=r"a\.yaml:6: .*extends itself"):
        load_config(write("extends: a.yaml\n", name="b.yaml", base=""))


def test_a_stage_lays_its_sections_over_the_run(staged: Path) -> None:
    run = load_config(staged)
    zero, more = stage_config(run, "zero"), stage_config(run, "more")
    assert zero.model.path == "base"
    assert (zero.grpo.lr, run.grpo.lr, more.grpo.lr) == (2e-5, 1e-5, 1e-5)
    assert (more.model.path, more.model.dtype) == ("zero", "bfloat16")
    assert set(more.rewards) == {"format"}
    assert set(more.data.train) == {"math"}
    assert set(more.data.eval) == {"test"}
    assert list(more.stages) == ["more"]
    assert stage_config(more, "more") == more


def test_presets_fill_only_what_nobody_gave(staged: Path) -> None:
    run = load_config(staged, ["grpo.clip_low=0.1"])
    zero = stage_config(run, "zero").grpo
    assert (zero.loss, zero.clip_high, zero.beta, zero.dynamic_sampling) == ("dapo", 0.28, 0.0, True)
    assert zero.clip_low == 0.1
    assert (run.grpo.loss, run.grpo.beta, run.grpo.dynamic_sampling) == ("grpo", 0.001, False)
    assert stage_config(load_config(staged, ["stages.zero.grpo.algorithm=r1"]), "zero").grpo.beta == 0.001


@pytest.mark.parametrize("first", PRESETS)
@pytest.mark.parametrize("second", PRESETS)
def test_no_preset_value_sticks(first: str, second: str) -> None:
    changed = GRPOConfig(algorithm=first, beta=0.5)  # type: ignore[arg-type]
    changed.algorithm = second  # type: ignore[assignment]
    assert changed == GRPOConfig(algorithm=second, beta=0.5)  # type: ignore[arg-type]


def test_a_run_made_in_python_has_stages_too() -> None:
    run = RunConfig.model_validate(
        {
            "model": {"path": "gpt2"},
            "data": {"train": {"a": {"path": "b"}}, "eval": {"c": {"path": "d"}}},
            "rewards": {"r": 1},
        }
    )
    run.grpo.lr = 1e-3
    assert list(stages_of(run)) == ["grpo", "evaluate"]
    assert stage_config(run, "grpo").grpo.lr == 1e-3
    assert stage_config(run, "evaluate").model.path == "grpo"
    with pytest.raises(ConfigError, match="no stage sft"):
        stage_config(run, "sft")


def test_the_resolved_file_gives_the_same_stages(staged: Path, tmp_path: Path) -> None:
    run = load_config(staged)
    dump_config(run, tmp_path / "out" / "config.yaml")
    again = load_config(tmp_path / "out" / "config.yaml")
    for stage in run.stages:
        assert stage_config(again, stage) == stage_config(run, stage)
    text = (tmp_path / "out" / "config.yaml").read_text()
    assert "group_size: 16" in text
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["config.yaml"]


def test_a_config_travels_to_other_processes(staged: Path) -> None:
    run = load_config(staged)
    assert pickle.loads(pickle.dumps(run)) == run


def test_an_override_that_every_stage_shadows(staged: Path) -> None:
    load_config(staged, ["grpo.lr=1"])  # the stage `more` takes it
    with pytest.raises(ConfigError, match=r"override grpo.lr=1: changes nothing.*stages\.zero\.grpo\.lr"):
        load_config(staged, ["stages.more.grpo.lr=2", "grpo.lr=1"])


def test_loading_needs_no_torch() -> None:
    code = "import sys, r1rl; r1rl.load_config; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

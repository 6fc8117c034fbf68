"""The whole loop on a tiny policy: learning, resuming, dynamic sampling, guards, bad input."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from r1rl import GRPOTrainer
from r1rl.config import RewardConfig, RunConfig
from r1rl.errors import ConfigError, DataError, ModelError, R1Error, RewardError, TrainingError
from r1rl.files import alone_in
from r1rl.grpo.guards import crossings
from r1rl.scoring.trial import try_rewards
from r1rl.tracking.console import Console

REWARDS = """
def digits(prompts, completions, **kwargs):
    return [min(1.0, sum(ch.isdigit() for ch in c) / 6) for c in completions]

def late(completions, trainer_state, **kwargs):
    return [float(trainer_state.global_step)] * len(completions)

def nan(prompts, completions, **kwargs):
    return [float("nan")] * len(completions)

def short(prompts, completions, **kwargs):
    return [1.0]

def nothing(prompts, completions, **kwargs):
    return [None] * len(completions)

def some(prompts, completions, **kwargs):
    return [None if i == 1 else float(i % 2) for i in range(len(completions))]

def odd(completions, completion_ids, prefill, problem, completion, reward, step, log_extra):
    log_extra("seen", [(p, c, r, s) for p, c, r, s in zip(problem, completion, reward, step)])
    columns = [len(p) + len(c) + r + s for p, c, r, s in zip(problem, completion, reward, step)]
    texts = [10 * len(i) + len(c) + len(f) for i, c, f in zip(completion_ids, completions, prefill)]
    return [100 * column + text for column, text in zip(columns, texts)]

def huge(prompts, completions, **kwargs):
    return [1e38 * (i + 1) for i in range(len(completions))]

def wrong(prompts, completions, **kwargs):
    return [0.0] * len(completions)

def numbered(prompts, completions, **kwargs):
    return [float(i) for i in range(len(completions))]
"""


@pytest.fixture
def rewards_file(tmp_path: Path) -> Path:
    file = tmp_path / "my_rewards.py"
    file.write_text(REWARDS)
    return file


def config(folder: Path, rewards_from: Path, **changes: Any) -> RunConfig:
    settings: dict[str, Any] = {
        "name": "test",
        "device": "cpu",
        "model": {"path": str(folder)},
        "data": {
            "train": {"sums": {"path": "generated:arithmetic", "args": {"split": "train", "size": 40}}},
            "prompt": {"template": "r1_zero", "system": ""},
        },
        "rewards": {"digits": {"function": f"{rewards_from}:digits"}},
        "rollout": {"prompts_per_step": 4, "group_size": 4, "max_new_tokens": 12},
        "grpo": {"steps": 3, "learning_rate": 1e-3, "beta": 0.0, "checkpoint_every": 1},
        "tracking": {"console": False},
    }
    for key, value in changes.items():
        settings[key] = {**settings.get(key, {}), **value} if isinstance(value, dict) else value
    return RunConfig(**settings)


def train(cfg: RunConfig, folder: Path) -> dict[str, float]:
    return GRPOTrainer(cfg, folder, console=Console(quiet=True)).train()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).state_dict()


def lines(folder: Path, *drop: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    watch = ("time/", "_ms", "per_s", "system/")
    return [{k: v for k, v in row.items() if not any(w in k for w in watch)} for row in rows]


def test_it_learns_what_is_rewarded(tiny_folder, rewards_file, tmp_path) -> None:
    cfg = config(
        tiny_folder,
        rewards_file,
        rollout={"prompts_per_step": 8, "group_size": 8, "max_new_tokens": 12},
        grpo={"steps": 15, "learning_rate": 5e-3, "beta": 0.0, "checkpoint_every": 0},
    )
    train(cfg, tmp_path / "run")
    rewards = [row["reward/mean"] for row in lines(tmp_path / "run")]
    assert np.mean(rewards[:3]) < 0.3
    assert np.mean(rewards[-3:]) > 0.7


@pytest.mark.parametrize(
    "grpo",
    [
        {"beta": 0.0},
        {"beta": 0.05, "ref_update_every": 2, "minibatches": 2, "epochs": 2},
    ],
)
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(tiny_folder, rewards_file, tmp_path, grpo) -> None:
    base = {"steps": 4, "learning_rate": 1e-3, "checkpoint_every": 1, "warmup_updates": 2}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(config(tiny_folder, rewards_file, grpo=base | grpo), whole)
    train(config(tiny_folder, rewards_file, grpo=base | grpo | {"steps": 2}), cut)
    train(config(tiny_folder, rewards_file, grpo=base | grpo), cut)
    expected, resumed = weights(whole), weights(cut)
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    assert [row["step"] for row in lines(cut)] == [1, 2, 3, 4]
    assert lines(whole) == lines(cut)


def test_a_folder_with_other_work_is_refused_or_renamed(tiny_folders, rewards_file, tmp_path) -> None:
    """Another learning rate, reward, base model or reward code: never silently the old policy."""
    base, folder = tiny_folders(True), tmp_path / "run"
    grpo = {"steps": 1, "learning_rate": 1e-3, "beta": 0.0, "checkpoint_every": 1}
    train(config(base, rewards_file, grpo=grpo), folder)
    before = weights(folder)
    others = {
        r"grpo\.learning_rate 0\.001 → 0\.002": config(base, rewards_file, grpo=grpo | {"learning_rate": 2e-3}),
        r"rewards\.format absent → given": config(
            base, rewards_file, grpo=grpo, rewards={"format": {}, "digits": {"function": f"{rewards_file}:digits"}}
        ),
        r"model\.path: what .* holds": config(tiny_folders(False), rewards_file, grpo=grpo),
    }
    for says, other in others.items():
        with pytest.raises(R1Error, match=rf"{says}.*another folder.*overwrite=True"):
            train(other, folder)
    rewards_file.write_text(REWARDS.replace("/ 6", "/ 7"))
    with pytest.raises(R1Error, match=r"rewards\.digits\.function: what \S+ holds"):
        train(config(base, rewards_file, grpo=grpo | {"steps": 2}), folder)
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(folder).items())
    GRPOTrainer(config(base, rewards_file, grpo=grpo), folder, console=Console(quiet=True), overwrite=True).train()
    assert [row["step"] for row in lines(folder)] == [1]
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(tmp_path / "run.1").items())


def test_two_trainers_do_not_share_a_folder(tiny_folder, rewards_file, tmp_path) -> None:
    """Nor does one rename the folder of another that is at work; the lock goes when the training has ended."""
    cfg, folder = (
        config(tiny_folder, rewards_file, grpo={"steps": 1, "learning_rate": 1e-3, "beta": 0.0}),
        tmp_path / "run",
    )
    train(cfg, folder)
    other = config(tiny_folder, rewards_file, grpo={"steps": 1, "learning_rate": 2e-3, "beta": 0.0})
    before = lines(folder)
    with alone_in(folder):
        for overwrite in (False, True):
            with pytest.raises(R1Error, match=rf"{folder} is in use by process {os.getpid()}; .*another folder"):
                GRPOTrainer(other, folder, console=Console(quiet=True), overwrite=overwrite).train()
    assert not (tmp_path / "run.1").exists()
    assert lines(folder) == before
    train(cfg, folder)


def test_a_run_that_had_ended_returns_its_last_metrics(tiny_folder, rewards_file, tmp_path) -> None:
    cfg = config(tiny_folder, rewards_file, grpo={"steps": 2, "learning_rate": 1e-3, "beta": 0.0})
    first = train(cfg, tmp_path / "run")
    logged = lines(tmp_path / "run")
    again = train(cfg, tmp_path / "run")
    assert {name: again[name] for name in first} == first
    assert lines(tmp_path / "run") == logged


def test_smaller_micro_batches_continue_the_run(tiny_folder, rewards_file, tmp_path) -> None:
    """As the message about too little memory advises; the loss is normalised over the whole update."""
    grpo = {"steps": 2, "learning_rate": 1e-3, "beta": 0.0, "checkpoint_every": 1}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(config(tiny_folder, rewards_file, grpo=grpo), whole)
    train(config(tiny_folder, rewards_file, grpo=grpo | {"steps": 1}), cut)
    train(config(tiny_folder, rewards_file, grpo=grpo | {"tokens_per_microbatch": 64}), cut)
    expected = weights(whole)
    for name, tensor in weights(cut).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)
    assert [row["policy/micro_batches"] > 1 for row in lines(cut)] == [False, True]


def test_fewer_steps_than_were_made_end_where_the_run_is(tiny_folder, rewards_file, tmp_path) -> None:
    grpo = {"steps": 3, "learning_rate": 1e-3, "beta": 0.0, "checkpoint_every": 1}
    metrics = train(config(tiny_folder, rewards_file, grpo=grpo), tmp_path / "run")
    before = weights(tmp_path / "run")
    fewer = train(config(tiny_folder, rewards_file, grpo=grpo | {"steps": 1}), tmp_path / "run")
    assert fewer["reward/mean"] == metrics["reward/mean"]
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(tmp_path / "run").items())


def test_the_result_opens_in_plain_transformers(tiny_folder, rewards_file, tmp_path) -> None:
    train(config(tiny_folder, rewards_file, grpo={"steps": 1}), tmp_path / "run")
    folder = tmp_path / "run" / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = model.generate(**tokenizer("What is 3+4?", return_tensors="pt"), max_new_tokens=3)
    assert ids.shape[1] > 3


def test_rewards_are_those_of_the_source_and_the_length_penalty(tiny_folder, rewards_file, tmp_path) -> None:
    """Held-out problems have their own rewards, under whatever name; the penalty needs no listing."""
    source = {"path": "generated:arithmetic", "rewards": ["digits"], "args": {"split": "train", "size": 40}}
    held_out = {"path": "generated:arithmetic", "rewards": ["format"], "args": {"split": "test", "size": 2}}
    cfg = config(
        tiny_folder,
        rewards_file,
        data={"train": {"sums": source}, "eval": {"sums": held_out}, "prompt": {"system": ""}},
        rewards={"format": {"function": "format"}},
        evaluate={"samples": 2},
        grpo={"steps": 1, "overlong_buffer": 8, "eval_every": 1},
    )
    metrics = train(cfg, tmp_path / "run")
    named = {name for name in metrics if name.startswith("reward/") and name.endswith("/mean")} - {"reward/mean"}
    assert named == {"reward/digits/mean", "reward/soft_overlong/mean"}
    assert metrics["reward/mean"] == pytest.approx(
        metrics["reward/digits/mean"] + metrics["reward/soft_overlong/mean"], abs=1e-6
    )
    assert {"eval/sums/format", "eval/sums/soft_overlong"} <= metrics.keys()
    assert "eval/sums/digits" not in metrics


def test_a_runs_samples_can_be_scored_again_whatever_the_columns_are_called(
    tiny_folder, rewards_file, tmp_path
) -> None:
    rows = [
        {"problem": f"What is {i}+1?", "completion": "x" * i, "reward": i, "step": 7 - i, "day": None} for i in range(6)
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cfg = config(
        tiny_folder,
        rewards_file,
        data={
            "train": {"mine": {"path": str(tmp_path / "data.jsonl"), "question": "problem", "answer": None}},
            "prompt": {"system": "", "prefill": "<think>\n"},
        },
        rewards={"digits": {"function": f"{rewards_file}:odd"}},
        grpo={"steps": 2},
        tracking={"console": False, "samples_per_step": 4},
    )
    train(cfg, tmp_path / "run")
    samples = tmp_path / "run" / "samples.jsonl"
    found = [json.loads(line) for line in samples.read_text().splitlines()]
    assert len(found) == 8
    assert {row["step"] for row in found} == {1, 2}
    for row in found:
        columns = dict(row["columns"])
        assert columns.pop("question") == columns["problem"]
        assert columns in rows
        assert row["extra_seen"] == [columns[name] for name in ("problem", "completion", "reward", "step")]
    scored, metrics = try_rewards(
        samples, {"again": RewardConfig(function=f"{rewards_file}:odd")}, "completion", "prompt", None
    )
    values = [value for group in scored for value in group.by_reward["again"]]
    assert values == [row["reward_digits"] for row in found]
    assert metrics["reward/again/mean"] == pytest.approx(np.mean(values))


def test_dynamic_sampling_is_bounded_and_counts(tiny_folder, rewards_file, tmp_path) -> None:
    cfg = config(
        tiny_folder,
        rewards_file,
        grpo={"algorithm": "dapo", "steps": 2, "learning_rate": 1e-3},
        rollout={"prompts_per_step": 4, "group_size": 4, "max_new_tokens": 12, "dynamic_sampling": {"max_rounds": 3}},
    )
    train(cfg, tmp_path / "run")
    for row in lines(tmp_path / "run"):
        assert 1 <= row["rollout/dynamic_rounds"] <= 3
        assert row["rollout/dynamic_useful"] <= row["rollout/dynamic_drawn"]
        if row["rollout/dynamic_useful"] >= 4:
            assert row["rollout/zero_variance_groups"] == 0


@pytest.mark.parametrize("scale", ["group", "reinforce_pp"])
def test_a_step_without_a_useful_group_learns_nothing(tiny_folder, rewards_file, tmp_path, caplog, scale) -> None:
    """Completions of unequal rewards whose named reward is 0 throughout, as where only a length penalty differs."""
    rewards = {
        "digits": {"function": f"{rewards_file}:numbered"},
        "accuracy": {"function": f"{rewards_file}:wrong", "weight": 0.0},
    }
    grpo = {"algorithm": "dapo", "steps": 1, "learning_rate": 1e-3, "scale_rewards": scale, "beta": 0.1}
    sampling = {"prompts_per_step": 2, "group_size": 4, "max_new_tokens": 12, "dynamic_sampling": {"max_rounds": 2}}
    cfg = config(tiny_folder, rewards_file, rewards=rewards, grpo=grpo, rollout=sampling)
    metrics = GRPOTrainer(cfg, tmp_path / "run", console=Console()).train()
    assert metrics["rollout/dynamic_useful"] == metrics["policy/tokens"] == 0
    assert metrics["rollout/completions"] == 8
    assert metrics["reward/std"] > 0
    assert "no group is useful" in caplog.text
    before, after = AutoModelForCausalLM.from_pretrained(tiny_folder).state_dict(), weights(tmp_path / "run")
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("algorithm", ["r1", "dr_grpo", "dapo", "gspo", "cispo"])
def test_every_algorithm_runs_with_several_updates_a_rollout(tiny_folder, rewards_file, tmp_path, algorithm) -> None:
    cfg = config(
        tiny_folder,
        rewards_file,
        grpo={"algorithm": algorithm, "steps": 1, "learning_rate": 1e-3, "minibatches": 2, "overlong_buffer": 4},
    )
    metrics = train(cfg, tmp_path / "run")
    assert np.isfinite(metrics["policy/loss"])


def test_a_non_finite_update_stops_the_run_or_is_skipped_and_counted(tiny_folder, rewards_file, tmp_path) -> None:
    huge = {"huge": {"function": f"{rewards_file}:huge"}}
    grpo = {"algorithm": "dr_grpo", "steps": 1, "learning_rate": 1e-3}
    saved = tmp_path / "stop" / "checkpoints" / "step-000000"
    with pytest.raises(TrainingError, match=f"not finite.*before that update is saved, with its rollout, in {saved}"):
        train(config(tiny_folder, rewards_file, rewards=huge, grpo=grpo), tmp_path / "stop")
    assert (saved / "rollout.pt").is_file()
    metrics = train(
        config(tiny_folder, rewards_file, rewards=huge, grpo=grpo | {"guards": {"non_finite": "skip"}}),
        tmp_path / "skip",
    )
    assert metrics["policy/updates_skipped"] == 1
    train(
        config(tiny_folder, rewards_file, rewards=huge, grpo=grpo | {"guards": {"non_finite": "skip"}}),
        tmp_path / "stop",
    )
    (resumed,), (skipped,) = lines(tmp_path / "stop"), lines(tmp_path / "skip")
    assert {name: resumed[name] for name in ("step", "reward/mean", "policy/updates_skipped")} == {
        name: skipped[name] for name in ("step", "reward/mean", "policy/updates_skipped")
    }
    before, after = AutoModelForCausalLM.from_pretrained(tiny_folder).state_dict(), weights(tmp_path / "skip")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_completions_without_a_reward_are_not_learned_from(tiny_folder, rewards_file, tmp_path, caplog) -> None:
    grpo = {"steps": 1, "learning_rate": 1e-3, "beta": 0.1, "minibatches": 2}
    some = train(
        config(tiny_folder, rewards_file, rewards={"digits": {"function": f"{rewards_file}:some"}}, grpo=grpo),
        tmp_path / "a",
    )
    assert some["reward/mean"] == pytest.approx(1 / 3)
    assert some["reward/unscored"] == 0.25
    assert np.isfinite(some["policy/loss"])
    silent = config(tiny_folder, rewards_file, rewards={"digits": {"function": f"{rewards_file}:nothing"}}, grpo=grpo)
    none = GRPOTrainer(silent, tmp_path / "b", console=Console()).train()
    assert "step 1: no reward function applied to any completion" in caplog.text
    assert none["reward/unscored"] == 1.0
    before, after = AutoModelForCausalLM.from_pretrained(tiny_folder).state_dict(), weights(tmp_path / "b")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_empty_minibatches_count_in_no_share(tiny_folder, rewards_file, tmp_path) -> None:
    cfg = config(
        tiny_folder,
        rewards_file,
        rewards={"digits": {"function": f"{rewards_file}:some"}},
        grpo={"steps": 1, "beta": 0.1, "minibatches": 8},
        rollout={"prompts_per_step": 2, "group_size": 4, "max_new_tokens": 12},
    )
    metrics = train(cfg, tmp_path / "run")
    assert metrics["rollout/completions"] * (1 - metrics["reward/unscored"]) < 8  # so that one at least is empty
    assert metrics["policy/forwarded_fraction"] == 1.0


def test_tokens_of_every_epoch_are_counted(tiny_folder, rewards_file, tmp_path) -> None:
    metrics = train(
        config(tiny_folder, rewards_file, grpo={"steps": 1, "beta": 0.1, "epochs": 3, "minibatches": 2}), tmp_path / "a"
    )
    assert metrics["policy/updates"] == 6
    assert metrics["policy/tokens"] == 3 * (metrics["rollout/tokens"] + metrics["rollout/prompt_tokens"])


def test_what_crosses_a_guard() -> None:
    cfg = config(Path("x"), Path("y"), grpo={"guards": {"min_entropy": 0.5}}).grpo.guards
    (said,) = crossings(cfg, 3, {"policy/entropy": 0.1})
    assert "step 3: policy/entropy is 0.1, past grpo.guards.min_entropy 0.5" in said
    assert "collapsed" in said
    assert not crossings(cfg, 3, {"policy/entropy": 0.9})


def test_a_guard_warns(tiny_folder, rewards_file, tmp_path, caplog) -> None:
    grpo = {"steps": 1, "guards": {"min_length": 1000}}
    metrics = GRPOTrainer(config(tiny_folder, rewards_file, grpo=grpo), tmp_path / "run", console=Console()).train()
    assert metrics["policy/guards_crossed"] == 1
    assert "min_length" in caplog.text


def test_a_guard_stops_a_step_that_is_logged_and_saved(tiny_folder, rewards_file, tmp_path) -> None:
    grpo = {"steps": 3, "checkpoint_every": 0, "guards": {"min_length": 1000, "action": "stop"}}
    saved = tmp_path / "run" / "checkpoints" / "step-000001"
    with pytest.raises(TrainingError, match=f"shrunk.*{saved}"):
        train(config(tiny_folder, rewards_file, grpo=grpo), tmp_path / "run")
    assert [row["policy/guards_crossed"] for row in lines(tmp_path / "run")] == [1]
    samples = (tmp_path / "run" / "samples.jsonl").read_text().splitlines()
    assert {json.loads(line)["step"] for line in samples} == {1}
    warn = grpo | {"guards": {"min_length": 1000}}
    train(config(tiny_folder, rewards_file, grpo=warn), tmp_path / "run")
    assert [row["step"] for row in lines(tmp_path / "run")] == [1, 2, 3]
    train(config(tiny_folder, rewards_file, grpo=warn), tmp_path / "whole")
    stopped, whole = weights(tmp_path / "run"), weights(tmp_path / "whole")
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)


BAD = [
    ("missing dataset", {"data": {"train": {"a": {"path": "nowhere.jsonl"}}}}, DataError, "nowhere.jsonl"),
    ("unknown reward", {"rewards": {"acuracy": 1.0}}, R1Error, "accuracy"),
    (
        "missing column",
        {
            "data": {
                "train": {"a": {"path": "generated:arithmetic", "question": "q", "args": {"split": "train", "size": 4}}}
            }
        },
        DataError,
        "question",
    ),
    (
        "prompt too long",
        {
            "data": {
                "train": {"a": {"path": "generated:arithmetic", "args": {"split": "train", "size": 4}}},
                "prompt": {"max_tokens": 3},
            }
        },
        DataError,
        "max_tokens",
    ),
    ("no such model", {"model": {"path": "/nowhere/model"}}, ModelError, "does not exist"),
]


@pytest.mark.parametrize(("changes", "error", "says"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_input_is_one_line_that_says_what_to_change(tiny_folder, rewards_file, tmp_path, changes, error, says):
    with pytest.raises(error, match=says) as caught:
        train(config(tiny_folder, rewards_file, **changes), tmp_path / "run")
    assert "\n" not in str(caught.value).strip()


@pytest.mark.parametrize("name", ["nan", "short"])
def test_a_reward_that_breaks_its_contract_is_named(tiny_folder, rewards_file, tmp_path, name: str) -> None:
    with pytest.raises(RewardError, match=name):
        train(
            config(tiny_folder, rewards_file, rewards={name: {"function": f"{rewards_file}:{name}"}}), tmp_path / "run"
        )


def test_an_empty_dataset_says_so(tiny_folder, rewards_file, tmp_path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    with pytest.raises(DataError, match="empty"):
        train(config(tiny_folder, rewards_file, data={"train": {"a": {"path": str(empty)}}}), tmp_path / "run")


def test_a_model_folder_without_tokenizer_says_so(tiny_folder, rewards_file, tmp_path) -> None:
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder, ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(ModelError, match="tokenizer"):
        train(config(folder, rewards_file), tmp_path / "run")


@pytest.mark.parametrize("part", ["eval", "held_out"])
def test_a_training_question_in_an_evaluation_set_is_refused_or_dropped(
    tiny_folder, rewards_file, tmp_path, part: str
) -> None:
    same = {"path": "generated:arithmetic", "args": {"split": "train", "size": 10}}
    data = {"train": {"a": same}, part: {"b": same | {"limit": 3}}, "prompt": {"system": ""}}
    with pytest.raises(DataError):
        train(config(tiny_folder, rewards_file, data=data), tmp_path / "run")
    train(config(tiny_folder, rewards_file, data=data | {"on_overlap": "drop"}, grpo={"steps": 1}), tmp_path / "run")


def test_a_reward_reads_the_step_in_evaluations_too(tiny_folder, rewards_file, tmp_path) -> None:
    held_out = {"path": "generated:arithmetic", "args": {"split": "test", "size": 2}}
    cfg = config(
        tiny_folder,
        rewards_file,
        data={"eval": {"b": held_out}},
        rewards={"late": {"function": f"{rewards_file}:late"}},
        evaluate={"samples": 1},
        grpo={"steps": 2, "eval_every": 1, "checkpoint_every": 0},
    )
    train(cfg, tmp_path / "run")
    rows = lines(tmp_path / "run")
    assert [row["reward/late/mean"] for row in rows] == [0.0, 1.0]
    assert [row["eval/b/late"] for row in rows] == [1.0, 2.0]


def test_group_size_one_is_refused(tiny_folder, rewards_file, tmp_path) -> None:
    from r1rl import load_config

    file = tmp_path / "one.yaml"
    file.write_text(json.dumps(config(tiny_folder, rewards_file).model_dump(mode="json")))
    with pytest.raises(ConfigError, match="group_size"):
        load_config(file, ["rollout.group_size=1"])

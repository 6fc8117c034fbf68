"""The difficulty filter: measured once, applied always."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from r1rl import GRPOTrainer
from r1rl.config import RunConfig, load_config
from r1rl.data.stream import PromptStream
from r1rl.distributed.interrupt import Preempted
from r1rl.errors import ConfigError, DataError
from r1rl.files import claim
from r1rl.fingerprint.mark import MARK
from r1rl.grpo import difficulty, trainer
from r1rl.tracking.console import Console

REWARDS = """
def digit(prompts, completions, **kwargs):
    return [None if "9" in p else float(any(ch.isdigit() for ch in c)) for p, c in zip(prompts, completions)]

def length(completions, **kwargs):
    return [float(len(c)) for c in completions]
"""
SIZE = 30


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, list[str]]]:
    """The ids of the problems that each run trained on, by source."""
    seen: list[dict[str, list[str]]] = []

    class Watched(PromptStream):
        def __init__(self, problems: Any, *args: Any) -> None:
            seen.append({name: [p.id for p in each] for name, each in problems.items()})
            super().__init__(problems, *args)

    monkeypatch.setattr(trainer, "PromptStream", Watched)
    return seen


@pytest.fixture
def config(tiny_folder: Path, tmp_path: Path):
    (tmp_path / "rewards.py").write_text(REWARDS)

    def make(**changes: Any) -> RunConfig:
        source = {"path": "generated:arithmetic", "args": {"split": "train", "size": SIZE}}
        settings: dict[str, Any] = {
            "device": "cpu",
            "model": {"path": str(tiny_folder)},
            "data": {
                "train": {"sums": source, "chat": source | {"skip": 25, "rewards": ["length"]}},
                "prompt": {"system": ""},
                "difficulty": {"min_pass_rate": 0.2, "max_pass_rate": 0.8, "samples": 4},
            },
            "rewards": {name: {"function": f"{tmp_path / 'rewards.py'}:{name}"} for name in ("digit", "length")},
            "rollout": {"prompts_per_step": 2, "group_size": 2, "max_new_tokens": 3},
            "grpo": {"steps": 1, "learning_rate": 1e-2, "beta": 0.0, "checkpoint_every": 1},
            "evaluate": {"reward": "digit"},
            "tracking": {"console": False},
        }
        return RunConfig(**{k: {**v, **changes[k]} if k in changes else v for k, v in settings.items()})

    return make


def train(config: RunConfig, folder: Path) -> None:
    GRPOTrainer(config, folder, console=Console(quiet=True)).train()


def test_what_was_kept_is_kept_after_a_resume(config, streams, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "run"
    train(config(), folder)
    measured = (folder / "difficulty.jsonl").read_text().replace('"function": ', '"use": ')  # its former name
    (folder / "difficulty.jsonl").write_text(measured)
    train(config(grpo={"steps": 2, "learning_rate": 1e-2, "beta": 0.0}), folder)
    first, second = streams
    assert first == second
    assert 0 < len(first["sums"]) < SIZE
    assert len(first["chat"]) == SIZE - 25, "the reward that decides does not apply to it"
    assert (folder / "difficulty.jsonl").read_text() == measured
    head, *rows = map(json.loads, measured.splitlines())
    assert (head["samples"], head["seed"], head["reward"]["name"]) == (4, 0, "digit")
    rates = {row["problem"].partition("/")[0]: row["pass_rate"] for row in rows}
    assert len(rates) == SIZE
    assert {each for each, rate in rates.items() if rate is None or 0.2 <= rate <= 0.8} == set(first["sums"])
    assert None in rates.values()


def test_only_what_is_missing_is_measured(config, streams, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "run"
    train(config(), folder)
    whole = (folder / "difficulty.jsonl").read_text()
    other = tmp_path / "other"
    claim(other)
    shutil.copy(folder / MARK, other)
    (other / "difficulty.jsonl").write_text("".join(whole.splitlines(keepends=True)[:-4]))
    asked: list[int] = []
    share = difficulty.Difficulty._share
    monkeypatch.setattr(
        difficulty.Difficulty,
        "_share",
        lambda self, problems, *rest: asked.append(len(problems)) or share(self, problems, *rest),
    )
    train(config(), other)
    assert asked == [4]
    assert (other / "difficulty.jsonl").read_text() == whole
    train(config(rollout={"prompts_per_step": 2, "group_size": 2, "max_new_tokens": 2}), tmp_path / "short")
    assert asked == [4, SIZE]


def test_a_policy_that_has_been_trained_is_not_measured(config, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(config(), folder)
    (folder / "difficulty.jsonl").unlink()
    with pytest.raises(DataError, match=rf"lacks the pass rates of {SIZE} of {SIZE} problems.*cannot be measured"):
        train(config(grpo={"steps": 2}), folder)


def test_a_request_to_stop_is_heard_between_rounds(config, streams, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(difficulty, "_ROUND", 10)
    share = difficulty.Difficulty._share

    def stopped(self: Any, problems: Any, *rest: Any) -> Any:
        asked.interrupt.requested = True
        return share(self, problems, *rest)

    folder = tmp_path / "run"
    asked = GRPOTrainer(config(), folder, console=Console(quiet=True))
    with monkeypatch.context() as patched:
        patched.setattr(difficulty.Difficulty, "_share", stopped)
        with pytest.raises(Preempted, match="stopped while measuring difficulty"):
            asked.train()
    assert len((folder / "difficulty.jsonl").read_text().splitlines()) == 11
    assert (folder / "preempted").exists()
    train(config(), folder)
    assert len((folder / "difficulty.jsonl").read_text().splitlines()) == SIZE + 1


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["evaluate.reward=acuracy"], "evaluate.reward: data.difficulty measures"),
        (["data.train.a.rewards=[format]", "data.train.b={path: b}"], None),
        (["data.train.a.rewards=[format]"], "data.difficulty: nothing to filter"),
    ],
)
def test_a_reward_that_cannot_decide_is_refused(tmp_path: Path, overrides: list[str], says: str | None) -> None:
    text = "model: m\ndata: {train: {a: {path: a}}, difficulty: {samples: 2}}\nrewards: {accuracy: 1, format: 1}\n"
    (tmp_path / "run.yaml").write_text(text)
    if says is None:
        load_config(tmp_path / "run.yaml", overrides)
        return
    with pytest.raises(ConfigError, match=says):
        load_config(tmp_path / "run.yaml", overrides)

"""One step at a time: what it leaves, when it asks whether to stop, and how an interrupted one resumes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from r1rl import GRPOTrainer
from r1rl.config import RunConfig
from r1rl.distributed.interrupt import Interrupt, Interrupted, Preempted
from r1rl.grpo.run import Stopwatch
from r1rl.tracking.console import Console

REWARD = """
def digits(completions, **columns):
    return [min(1.0, sum(c.isdigit() for c in text) / 6) for text in completions]
"""
SEVERAL = {"beta": 0.05, "minibatches": 2, "epochs": 2}
"""Four updates per step, so that it can be interrupted between two of them."""


@pytest.fixture
def config(tiny_folder: Path, tmp_path: Path) -> Callable[..., RunConfig]:
    (tmp_path / "mine.py").write_text(REWARD)

    def make(**grpo: Any) -> RunConfig:
        return RunConfig(
            name="step",
            device="cpu",
            model={"path": str(tiny_folder)},
            data={
                "train": {"sums": {"path": "generated:arithmetic", "args": {"split": "train", "size": 40}}},
                "prompt": {"system": ""},
            },
            rewards={"digits": {"function": f"{tmp_path / 'mine.py'}:digits"}},
            rollout={"prompts_per_step": 4, "group_size": 4, "max_new_tokens": 12},
            grpo={"steps": 2, "learning_rate": 1e-3, "beta": 0.0, "checkpoint_every": 0, **grpo},
            tracking={"console": False},
        )

    return make


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_step_is_learned_synced_logged_and_saved(config: Callable[..., RunConfig], tmp_path: Path) -> None:
    trainer = GRPOTrainer(config(checkpoint_every=1), tmp_path / "run", console=Console(quiet=True))
    before = [p.detach().clone() for p in trainer.policy.model.parameters()]
    with trainer._claimed(), trainer._open() as run:
        trainer.train_step(run)
        assert (run.step, run.version, run.engine.version, run.rollout) == (1, 1, 1, None)
        assert (run.progress.done, run.longest) == (1, 0)
        assert any(not torch.equal(a, b) for a, b in zip(before, trainer.policy.model.parameters(), strict=True))
        (logged,) = rows(tmp_path / "run")
        assert logged["reward/mean"] == run.metrics["reward/mean"]
        phases = [logged[f"time/{phase}"] for phase in ("rollout", "update", "sync")]
        assert logged["time/step"] == pytest.approx(sum(phases))
        assert (tmp_path / "run" / "checkpoints" / "step-000001" / "manifest.json").is_file()
        trainer.train_step(run)
        assert run.step == 2
    assert [row["step"] for row in rows(tmp_path / "run")] == [1, 2]


@pytest.mark.parametrize(("grpo", "updates"), [({}, 1), (SEVERAL, 4)], ids=["one update", "four updates"])
def test_a_stop_is_asked_for_by_one_collective_per_update(
    config: Callable[..., RunConfig], tmp_path: Path, grpo: dict[str, Any], updates: int, monkeypatch: Any
) -> None:
    trainer = GRPOTrainer(config(tokens_per_microbatch=32, **grpo), tmp_path / "run", console=Console(quiet=True))
    with trainer._claimed(), trainer._open() as run:
        gathered: list[list[Any]] = []
        gather = run.learner.backend.gather
        monkeypatch.setattr(run.learner.backend, "gather", lambda items: gathered.append(items) or gather(items))
        trainer.train_step(run)
    assert run.metrics["policy/micro_batches"] > 1
    asked = [items for items in gathered if items[0] is False]
    assert len(asked) == updates == run.metrics["policy/updates"]


def test_a_stop_requested_while_a_step_ends_is_met_before_the_next_one_samples(
    config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: Any
) -> None:
    trainer = GRPOTrainer(config(), tmp_path / "run", console=Console(quiet=True))
    with trainer._claimed(), trainer._open() as run:
        trainer.train_step(run)
        trainer.interrupt.requested = True
        assert run.step == 1
        monkeypatch.setattr(run.engine, "stream", pytest.fail)
        with pytest.raises(Interrupted):
            trainer.train_step(run)
    assert (run.step, run.rollout) == (1, None)


class Before(Interrupt):
    """As if a signal reached some process before the update of this number, counted over the run from 1."""

    def __init__(self, update: int) -> None:
        super().__init__()
        self.left = update

    def requested_anywhere(self, gather: Any) -> bool:
        self.left -= 1
        return bool(gather([self.left == 0])[0])


@pytest.mark.parametrize("update", [1, 3, 6])
def test_a_step_interrupted_between_updates_resumes_bit_for_bit(
    config: Callable[..., RunConfig], tmp_path: Path, update: int
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    GRPOTrainer(config(**SEVERAL), whole, console=Console(quiet=True)).train()
    step = (update - 1) // 4
    stopped = GRPOTrainer(config(**SEVERAL), cut, console=Console(quiet=True), interrupt=Before(update))
    with pytest.raises(Preempted, match=f"step {step} is saved with its rollout, in {cut / 'checkpoints'}"):
        stopped.train()
    assert (cut / "preempted").exists()
    assert (cut / "checkpoints" / f"step-{step:06d}" / "rollout.pt").is_file()
    GRPOTrainer(config(**SEVERAL), cut, console=Console(quiet=True)).train()
    assert not (cut / "preempted").exists()
    assert [row["step"] for row in rows(cut)] == [1, 2]
    assert [row["reward/mean"] for row in rows(cut)] == [row["reward/mean"] for row in rows(whole)]
    expected = weights(whole)
    assert all(torch.equal(expected[name], tensor) for name, tensor in weights(cut).items())


def test_phases_add_up_to_the_step() -> None:
    watch = Stopwatch(clock=iter([10.0, 13.0, 13.5]).__next__)
    watch.lap("rollout")
    watch.lap("update")
    assert watch.metrics() == {"time/rollout": 3.0, "time/update": 0.5, "time/step": 3.5}

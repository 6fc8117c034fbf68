"""A tiny model, stored rollouts, and a way to start processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from r1rl.config.model import TinyModelConfig
from r1rl.grpo.snapshot import rollout_state
from r1rl.model.load import Policy
from r1rl.stages.pretrain import build_model, build_tokenizer, documents
from r1rl.types import Completion, Group, Problem, ScoredGroup
from tests.support.waits import HANG_S

ROOT = Path(__file__).parents[2]
UPDATES = 10


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int], Path]:
    """``make_model(hidden_size, heads)``: an untrained model with one key-value head."""

    def make(hidden_size: int, heads: int) -> Path:
        folder = tmp_path_factory.mktemp("model")
        tokenizer = build_tokenizer(documents("arithmetic", seed=-1), 200)
        torch.manual_seed(5)
        cfg = TinyModelConfig(
            hidden_size=hidden_size, layers=2, heads=heads, kv_heads=1, intermediate_size=71, max_positions=256
        )
        Policy(build_model(cfg, tokenizer), tokenizer).save(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def model(make_model: Callable[[int, int], Path]) -> Path:
    """A model of odd sizes, so that nothing divides by the number of ranks."""
    return make_model(36, 3)


@pytest.fixture(scope="session")
def rollouts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Ten stored rollouts: lengths from 1 to 64 tokens, numbers of groups from 1 to 5.

    The fourth leaves one sample after masking (an empty rank), the seventh has no reward that differs.
    """
    folder = tmp_path_factory.mktemp("rollouts")
    rng = np.random.default_rng(11)
    files = []
    for update in range(UPDATES):
        groups = [_group(rng, update, i) for i in range(1 + (update * 2) % 5)]
        if update == 3:
            groups = [_group(rng, update, 0, size=2, truncate_first=True)]
        if update == 6:
            for group in groups:
                group.rewards[:] = 1.0
        files.append(str(folder / f"{update}.pt"))
        torch.save(rollout_state(groups), files[-1])
    return files


def _group(
    rng: np.random.Generator, update: int, index: int, size: int = 4, truncate_first: bool = False
) -> ScoredGroup:
    problem = Problem(
        f"{update}/{index}", tuple(rng.integers(0, 300, rng.integers(3, 20)).tolist()), "", {"answer": "1"}
    )
    completions = []
    for i in range(size):
        length = int(np.clip(rng.lognormal(2.5, 0.9), 1, 64))
        completions.append(
            Completion(
                token_ids=rng.integers(0, 300, length),
                logps=rng.normal(-5.5, 0.3, length).astype(np.float32),
                text="",
                finish="length" if truncate_first and i == 0 else "stop",
            )
        )
    rewards = rng.integers(0, 2, size).astype(np.float64)
    rewards[0], rewards[1] = 0.0, 1.0
    return ScoredGroup(Group(problem, completions), rewards, {"accuracy": rewards.copy()})


@pytest.fixture(scope="session")
def launch() -> Callable[..., str]:
    """Run a script under ``accelerate launch`` with one of the shipped files; returns what it printed."""

    def run(config: str, *arguments: str, processes: int = 2, timeout: float = HANG_S, port: int = 0) -> str:
        command = [sys.executable, "-m", "accelerate.commands.launch"]
        command += ["--config_file", str(ROOT / "launch" / "accelerate" / f"{config}.yaml")]
        command += ["--num_processes", str(processes), "--main_process_port", str(port), *arguments]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
        return done.stdout

    return run


@pytest.fixture
def on_two_processes(model: Path, launch: Callable[..., str], tmp_path: Path) -> Callable[[dict[str, Any]], None]:
    """Train the model of odd sizes with the keys given, into ``tmp_path/run``; ``tmp_path/run.yaml`` says how."""

    def run(keys: dict[str, Any]) -> None:
        config = {"name": "run", "output_dir": str(tmp_path), "device": "cpu", "model": str(model), **keys}
        config["grpo"] = {"deadline_s": HANG_S, **keys["grpo"]}
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
        launch("ddp", "-m", "r1rl.grpo", "--config", str(tmp_path / "run.yaml"))

    return run

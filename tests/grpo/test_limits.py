"""What cannot be done is said, with the key to change."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from r1rl import GRPOTrainer
from r1rl.config import RunConfig
from r1rl.distributed.launch_limits import check_launch
from r1rl.errors import ConfigError, TrainingError
from r1rl.grpo.memory import out_of_memory
from r1rl.model.lengths import check_length
from r1rl.tracking.console import Console
from tests.support.waits import HANG_S


def test_a_launch_file_that_splits_samples(tmp_path):
    """As accelerate hands it on to the processes."""
    script = tmp_path / "say.py"
    script.write_text("from r1rl.distributed.processes import start; start('cpu', 10.0)")
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--use_fsdp",
        "--fsdp_version",
        "2",
        "--num_processes",
    ]
    command += ["2", "--use_parallelism_config", "--parallelism_config_cp_size", "2", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode
    assert "ConfigError: the launch file asks for context parallelism (parallelism_config_cp_size)" in done.stderr


@pytest.mark.parametrize("way", ["SP", "CP", "TP"])
def test_ways_to_split_samples(way):
    with pytest.raises(ConfigError, match=rf"parallelism_config_{way.lower()}_size.*gradient_checkpointing"):
        check_launch({f"PARALLELISM_CONFIG_{way}_SIZE": "2"})


def test_other_ways_to_shard():
    with pytest.raises(ConfigError, match="zero3"):
        check_launch({"ACCELERATE_USE_FSDP": "true"})
    check_launch({"ACCELERATE_USE_FSDP": "false", "PARALLELISM_CONFIG_SP_SIZE": "1"})


def test_samples_longer_than_the_model(tiny_folder, tmp_path):
    config = RunConfig(
        device="cpu",
        model={"path": str(tiny_folder)},
        data={
            "train": {"sums": {"path": "generated:arithmetic", "args": {"split": "train", "size": 4}}},
            "prompt": {"template": "r1_zero", "system": ""},
        },
        rewards={"accuracy": {}},
        rollout={"max_new_tokens": 1020},
        tracking={"console": False},
    )
    with pytest.raises(ConfigError, match=r"rollout\.max_new_tokens 1020.*1024 positions: use at most \d+"):
        GRPOTrainer(config, tmp_path, console=Console(quiet=True)).train()
    check_length(24, 1000, 1024)
    check_length(24, 10_000, None)


@pytest.mark.parametrize(
    ("budget", "advice"), [(4096, "lower grpo.tokens_per_microbatch"), (64, "lower rollout.max_new_tokens")]
)
def test_memory_that_does_not_suffice(budget, advice):
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**56)
    explained = out_of_memory(caught.value, 900, budget, recomputes=False)
    assert isinstance(explained, TrainingError)
    assert re.search(rf"{advice}(?s:.)*gradient_checkpointing: true", str(explained))
    assert out_of_memory(RuntimeError("something else"), 0, 1, recomputes=True) is None


def test_the_paths_named_in_messages_exist():
    launch = Path(__file__).parents[2] / "launch" / "accelerate"
    assert all((launch / f"zero{stage}.yaml").is_file() for stage in (1, 2, 3))


def test_evaluation_while_training_counts_its_own_limit(tiny_folder, tmp_path):
    source = {"path": "generated:arithmetic", "args": {"size": 4}}
    config = RunConfig(
        device="cpu",
        model={"path": str(tiny_folder)},
        data={
            "train": {"sums": source | {"args": {"split": "train", "size": 4}}},
            "eval": {"sums": source | {"args": {"split": "test", "size": 4}}},
            "prompt": {"template": "r1_zero", "system": ""},
        },
        rewards={"accuracy": {}},
        rollout={"max_new_tokens": 8},
        evaluate={"max_new_tokens": 1020},
        grpo={"eval_every": 5},
        tracking={"console": False},
    )
    with pytest.raises(ConfigError, match=r"evaluate\.max_new_tokens 1020 .*1024 positions"):
        GRPOTrainer(config, tmp_path, console=Console(quiet=True)).train()

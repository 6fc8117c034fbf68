"""Where stages run, and what accelerate makes of the command that starts them."""

from __future__ import annotations

import argparse
import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
from accelerate.commands.launch import launch_command, launch_command_parser

from r1rl.config import load_config
from r1rl.errors import ConfigError
from r1rl.recipe.graph import graph
from r1rl.recipe.launch import command_line
from r1rl.recipe.layout import Machines, StageLayout, layout

ROOT = Path(__file__).parents[2]
TINY = ROOT / "configs" / "tiny" / "zero.yaml"


def laid_out(*overrides: str, launch: str | None = "zero2", gpus: int = 8, machines: int = 1) -> StageLayout:
    run = load_config(TINY, [*overrides, *([f"stages.zero.launch={launch}"] if launch else [])])
    return layout(graph(run)["zero"], gpus, machines)


@pytest.mark.parametrize(
    ("launch", "gpus", "machines", "processes"),
    [
        ("zero2", 8, 1, 8),
        ("zero2", 4, 1, 4),
        ("zero3", 8, 8, 8),
        ("ddp", 8, 1, 8),
        ("multinode", 8, 2, 8),
        ("zero2", 1, 1, 1),
        ("zero2", 0, 1, 2),  # on the CPU, what the file says
        ("cpu", 8, 1, 1),
    ],
)
def test_a_launch_file_of_ours_takes_every_visible_gpu(launch, gpus, machines, processes):
    at = laid_out(launch=launch, gpus=gpus, machines=machines)
    assert (at.processes, at.machines) == (processes, machines)
    assert at.launch is not None


def test_a_file_of_the_users_own_says_how_many_processes(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("distributed_type: MULTI_GPU\nnum_machines: 2\nnum_processes: 8\n")
    at = laid_out(launch=str(own), machines=2)
    assert at.processes == 4
    assert "4 visible GPUs are idle" in at.summary()
    with pytest.raises(ConfigError, match="4 processes per machine, but 2 GPUs are visible"):
        laid_out(launch=str(own), machines=2, gpus=2)


def test_one_gpu_needs_no_launcher_without_deepspeed():
    assert laid_out(launch="ddp", gpus=1).launch is None
    assert laid_out(launch="zero3-offload", gpus=1).launch is not None


def test_servers_take_the_gpus_after_the_processes():
    server = ("rollout.engine=vllm", "rollout.vllm.mode=server", "rollout.vllm.tensor_parallel_size=2")
    at = laid_out(*server, "rollout.vllm.servers=2")
    assert (at.processes, at.servers) == (4, 2)
    assert [at.devices(index) for index in range(2)] == [[4, 5], [6, 7]]
    elsewhere = laid_out(*server, "rollout.vllm.urls=[http://n9:8000]")
    assert (elsewhere.processes, elsewhere.servers) == (8, 0)


def test_more_servers_than_gpus_are_refused_before_anything_starts():
    many = ("rollout.engine=vllm", "rollout.vllm.mode=server", "rollout.vllm.tensor_parallel_size=8")
    with pytest.raises(ConfigError, match="need 512 GPUs besides those of the training processes, and 8 are visible"):
        laid_out(*many, "rollout.vllm.servers=64")
    with pytest.raises(ConfigError, match=r"on the first of 2 machines only.*rollout\.vllm\.urls"):
        laid_out(*many, machines=2)


def test_a_file_for_two_machines_says_how_to_start_both():
    with pytest.raises(ConfigError, match="--num-machines 2 --machine-rank 0, 1, … --main-process-ip"):
        laid_out(launch="multinode")


@pytest.mark.parametrize("rank", [0, 3])
@pytest.mark.parametrize("launch", ["ddp", "zero2", "zero3", "multinode"])
def test_accelerate_starts_this_machines_share(launch, rank, monkeypatch):
    """By accelerate's own parser, with the defaults that it reads from the launch file."""
    if launch != "ddp" and importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed: pip install 'r1rl[deepspeed]'")
    at = laid_out(launch=launch, machines=4)
    words = command_line(at, Path("config.yaml"), "zero", Machines(4, rank, "10.0.0.1"), 45678)
    started: dict[str, Any] = {}

    def run(args: argparse.Namespace) -> None:
        started.update(vars(args) | {"zero": os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "0")})

    monkeypatch.setattr("accelerate.utils.launch.is_port_in_use", lambda port: False)
    monkeypatch.setattr("torch.distributed.run.run", run)
    launch_command(launch_command_parser().parse_args(words[3:]))
    assert started, "DeepSpeed's own launcher would log in to the other machines"
    assert started["zero"] == str(at.zero)
    assert (started["nproc_per_node"], started["nnodes"], started["node_rank"]) == ("8", "4", rank)
    assert (started["rdzv_endpoint"], started["rdzv_backend"]) == ("10.0.0.1:45678", "static")
    assert started["module"]
    assert started["training_script"] == "r1rl"
    assert started["training_script_args"] == ["run", "config.yaml", "--only", "zero", "--launched"]


def test_ranks_and_addresses_of_machines_are_checked():
    with pytest.raises(ConfigError, match="ranks are 0 to 1"):
        Machines(2, 2, "n1").checked()
    with pytest.raises(ConfigError, match="--main-process-ip"):
        Machines(2, 1).checked()

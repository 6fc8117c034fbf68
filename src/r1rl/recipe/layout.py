"""How many processes a stage gets, on which machines and GPUs, and what those leave for vLLM's servers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from r1rl.config.paths import SHIPPED, launch_file, launch_names
from r1rl.errors import ConfigError
from r1rl.recipe.graph import Node


@dataclass(frozen=True, slots=True)
class Machines:
    """The machines of a run, and this one's place among them. On each of them the same ``r1rl run`` is started."""

    count: int = 1
    rank: int = 0
    address: str = ""
    """Address of the first one, for the others."""
    port: int = 29500
    """Port of the first one at which the others meet it; each stage's processes get a free port of their own."""

    def checked(self) -> Machines:
        """Itself. Raises ConfigError where the values do not fit each other."""
        if self.count < 1 or not 0 <= self.rank < self.count:
            raise ConfigError(
                f"--machine-rank {self.rank} of --num-machines {self.count}: ranks are 0 to {self.count - 1}"
            )
        if self.count > 1 and not self.address:
            raise ConfigError("--num-machines above 1 needs --main-process-ip, the address of the machine of rank 0")
        return self


@dataclass(frozen=True, slots=True)
class LaunchFile:
    """What r1rl reads of an ``accelerate`` configuration file."""

    path: Path
    distributed: str
    """accelerate's ``distributed_type``."""
    zero: int
    """Stage of ZeRO; 0 without DeepSpeed."""
    offload: bool
    """Whether optimizer states are in host memory."""
    machines: int
    processes: int
    """Of all machines."""

    @property
    def shipped(self) -> bool:
        """Whether it comes with r1rl: its number of processes is then only an example."""
        return self.path.parent == SHIPPED

    @classmethod
    def find(cls, launch: str) -> LaunchFile:
        """The file that a stage's ``launch`` means. Raises ConfigError where there is none."""
        path = launch_file(launch)
        if path is None:
            raise ConfigError(f"there is no launch file {launch}; r1rl comes with {', '.join(launch_names())}")
        return cls.read(path)

    @classmethod
    def read(cls, path: Path) -> LaunchFile:
        """Raises ConfigError for a file that is not a launch configuration."""
        try:
            raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"launch file {path} cannot be read: {error}") from error
        if not isinstance(raw, dict):
            raise ConfigError(f"launch file {path} is not a mapping of accelerate's keys")
        deepspeed = raw.get("deepspeed_config") or {}
        kind = str(raw.get("distributed_type", "NO")).upper()
        return cls(
            path,
            kind,
            int(deepspeed.get("zero_stage", 2)) if kind == "DEEPSPEED" else 0,
            deepspeed.get("offload_optimizer_device", "none") not in (None, "none"),
            int(raw.get("num_machines") or 1),
            int(raw.get("num_processes") or 1),
        )


@dataclass(frozen=True, slots=True)
class StageLayout:
    """Where one stage runs."""

    machines: int
    processes: int
    """On each machine; the n-th uses the n-th visible GPU."""
    launch: LaunchFile | None
    """None: one process, that of ``r1rl run``."""
    servers: int = 0
    """vLLM servers that the first process starts, on the GPUs after those of the processes."""
    tensor_parallel: int = 1
    """GPUs of an engine."""
    why: str = ""
    """Why it has this many processes, for the log."""

    @property
    def ranks(self) -> int:
        """Processes of all machines."""
        return self.machines * self.processes

    @property
    def zero(self) -> int:
        """Stage of ZeRO; 0 without DeepSpeed."""
        return self.launch.zero if self.launch else 0

    def summary(self) -> str:
        """How many processes on how many machines, and why."""
        count = f"{self.processes} process{'es' if self.processes > 1 else ''}"
        each = f" on each of {self.machines} machines" if self.machines > 1 else ""
        return f"{count}{each} ({self.why})"

    def devices(self, server: int) -> list[int]:
        """Positions of a server's GPUs among the visible ones."""
        first = self.processes + server * self.tensor_parallel
        return list(range(first, first + self.tensor_parallel))


def layout(node: Node, gpus: int, machines: int = 1) -> StageLayout:
    """Where a stage runs on ``machines`` machines with ``gpus`` visible GPUs each; 0 is the CPU.

    A launch file that comes with r1rl gives each GPU that no server needs a process. The user's own file says how many
    processes there are, as does any file on the CPU.

    Args:
        node: the stage, with ``rollout.engine`` decided.

    Raises:
        ConfigError: there are not enough GPUs, or the launch file wants other machines than there are.
    """
    servers, tensor_parallel = _servers(node), node.view.rollout.vllm.tensor_parallel_size
    taken = servers * tensor_parallel if gpus else 0
    if servers and machines > 1:
        raise ConfigError(
            f"rollout.vllm.servers: r1rl starts servers on the first of {machines} machines only; start them on "
            "machines of their own (launch/slurm/train.sbatch, VLLM_NODES) and name them in rollout.vllm.urls"
        )
    if gpus and taken >= gpus:
        raise ConfigError(
            f"rollout.vllm.servers {servers} × tensor_parallel_size {tensor_parallel} need {taken} GPUs besides those "
            f"of the training processes, and {gpus} are visible: use fewer, or name servers on other machines in "
            "rollout.vllm.urls"
        )
    found = None if node.launch is None else LaunchFile.find(node.launch)
    if found is None:
        return StageLayout(1, 1, None, servers, tensor_parallel, "no launch file")
    if found.machines > 1 and machines == 1:
        raise ConfigError(
            f"launch file {found.path.name} is for {found.machines} machines: start the same r1rl run on each of them "
            f"with --num-machines {found.machines} --machine-rank 0, 1, … --main-process-ip ADDRESS_OF_RANK_0"
        )
    if found.distributed == "NO":
        return StageLayout(1, 1, found, servers, tensor_parallel, f"{found.path.name} is for one")
    processes, why = _processes(found, gpus, taken)
    if gpus and processes > gpus - taken:
        raise ConfigError(
            f"launch file {found.path} starts {processes} processes per machine, but {gpus} GPUs are visible"
            + (f", of which vLLM's servers take {taken}" if taken else "")
        )
    _check_batch(node, machines * processes)
    if machines * processes == 1 and found.distributed != "DEEPSPEED":
        return StageLayout(1, 1, None, servers, tensor_parallel, "one GPU, and nothing to shard")
    return StageLayout(machines, processes, found, servers, tensor_parallel, why)


def _processes(found: LaunchFile, gpus: int, taken: int) -> tuple[int, str]:
    """Processes on each machine, and why so many."""
    written = max(1, found.processes // found.machines)
    if not gpus:
        return written, f"as {found.path.name} says"
    if found.shipped:
        left = f" that vLLM's servers leave ({taken} of {gpus} are theirs)" if taken else ""
        return gpus - taken, f"one per visible GPU{left}"
    idle = gpus - taken - written
    return written, f"as {found.path.name} says" + (f"; {idle} visible GPUs are idle" if idle > 0 else "")


def _check_batch(node: Node, ranks: int) -> None:
    """Refuse at the start what a later stage would refuse: SFT and reward models divide their batch among processes.

    Raises: ConfigError.
    """
    settings = getattr(node.view, node.row.section)
    whole, micro = getattr(settings, "batch_size", 0), getattr(settings, "micro_batch_size", 0)
    if micro and whole % (micro * ranks):
        raise ConfigError(
            f"stage {node.name}: batch_size {whole} does not divide into {ranks} processes × micro_batch_size {micro}; "
            "change one of them, or use fewer processes"
        )


def _servers(node: Node) -> int:
    """Servers that the stage itself starts."""
    rollout, vllm = node.view.rollout, node.view.rollout.vllm
    samples = "rollout" in node.row.uses
    starts = samples and rollout.engine == "vllm" and vllm.mode == "server" and not vllm.urls and vllm.launcher is None
    return vllm.servers if starts else 0

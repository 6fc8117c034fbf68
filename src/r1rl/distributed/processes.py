"""Joins the processes that ``accelerate launch`` started, bounds every collective, names processes that are lost."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from r1rl.distributed import operators
from r1rl.distributed.deadline import deadline
from r1rl.distributed.launch_limits import check_launch
from r1rl.errors import ConfigError, TrainingError, first_line

JOIN_S = 600.0
"""Minimum time for the others to join: before that they import, and compile what DeepSpeed needs, on each host."""

_LATE_S = 15.0
"""How much later than torch's own time-out, whose message says more, a wait is ended from outside."""

_UNBOUNDED = "_r1rl_unbounded"


def start(device: Literal["auto", "cpu", "cuda"], deadline_s: float) -> Accelerator:
    """The accelerator of this process, connected to the others.

    Args:
        device: ``RunConfig.device``.
        deadline_s: longest wait for another process in a collective, whichever library created its group; joining them
            may take :data:`JOIN_S` at least.

    Raises:
        ConfigError: the launch file and ``device`` conflict, an unavailable device is requested, or DeepSpeed is not
            installed.
        TrainingError: the other processes did not join in time.
    """
    check_launch(os.environ)
    sharded = os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true"
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    if device == "cuda" and on_cpu:
        raise ConfigError("device: cuda, but torch finds no GPU here; use device: auto or cpu")
    launched = "LOCAL_RANK" in os.environ
    join_s = max(deadline_s, JOIN_S)
    join = InitProcessGroupKwargs(backend="gloo" if launched and on_cpu else None, timeout=timedelta(seconds=join_s))
    if sharded:
        _prepare_deepspeed(on_cpu)
    rank, ranks = placed(os.environ)
    with contextlib.ExitStack() as waiting:
        if ranks > 1:
            _bound_groups(deadline_s, rank)
            waiting.enter_context(naming_lost_peers(rank, ranks, "while joining them"))
            waiting.enter_context(deadline(join_s + _LATE_S, "joining the other processes", rank))
        accelerator = Accelerator(cpu=on_cpu and not sharded, kwargs_handlers=[join])
        if ranks > 1:
            torch.distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=deadline_s))
            atexit.register(_leave)
    if sharded:
        unset_hf_deepspeed_config()  # or transformers would shard every model it opens, including those of other stages
    return accelerator


def visible_gpus(device: str) -> int:
    """GPUs that this process may use (CUDA_VISIBLE_DEVICES); 0 where ``device`` is cpu."""
    return torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else 0


def placed(environment: Mapping[str, str]) -> tuple[int, int]:
    """This process's rank and the number of ranks, from the launcher's environment: (0, 1) without one."""
    return int(environment.get("RANK", "0")), int(environment.get("WORLD_SIZE", "1"))


def _leave() -> None:
    """End gloo's threads while the interpreter still exists.

    One that still drops a tensor when Python is finalized ends the process by SIGABRT ("terminate called without an
    active exception"), occasionally and after all work is done, and the launcher then reports a failed run. NCCL is not
    ended here: doing so can wait for peers that are gone.
    """
    if torch.distributed.is_initialized() and torch.distributed.get_backend() == "gloo":
        torch.distributed.destroy_process_group()


def _bound_groups(deadline_s: float, rank: int) -> None:
    """Groups that are created later, mainly DeepSpeed's, would wait half an hour whatever the first group's time-out
    is; and creating one queries a store on the first host, which never answers over a broken link."""
    new_group = getattr(torch.distributed.new_group, _UNBOUNDED, torch.distributed.new_group)

    @functools.wraps(new_group)
    def bounded(ranks: Any = None, timeout: timedelta | None = None, *args: Any, **settings: Any) -> Any:
        with deadline(deadline_s + _LATE_S, "making a group of processes", rank):
            return new_group(ranks, timeout or timedelta(seconds=deadline_s), *args, **settings)

    setattr(bounded, _UNBOUNDED, new_group)
    torch.distributed.new_group = bounded


def _prepare_deepspeed(on_cpu: bool) -> None:
    if on_cpu:
        if torch.cuda.is_available():
            raise ConfigError("device: cpu under DeepSpeed on a machine with GPUs: set CUDA_VISIBLE_DEVICES= as well")
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        os.environ["ACCELERATE_USE_CPU"] = "false"  # or accelerate would not use DeepSpeed
    try:
        import deepspeed  # noqa: F401
    except ImportError as error:
        raise ConfigError("the launch file requests DeepSpeed: pip install 'r1rl[deepspeed]'") from error
    operators.build(operators.needed(os.environ, on_cpu))


@contextlib.contextmanager
def naming_lost_peers(rank: int, ranks: int, doing: str) -> Iterator[None]:
    """Converts gloo's or NCCL's error about a lost process to one sentence, see :func:`lost_peers`.

    Raises:
        TrainingError: a collective failed or was not joined in time.
    """
    try:
        yield
    except RuntimeError as error:
        lost = lost_peers(error, rank, ranks, doing)
        if lost is None:
            raise
        raise lost from error


def lost_peers(error: RuntimeError, rank: int, ranks: int, doing: str) -> TrainingError | None:
    """The error to raise where ``error`` is a collective that failed or was not joined in time; None for any other.
    ``doing`` says when: "in step 3"."""
    known = isinstance(error, torch.distributed.DistError) or any(m in str(error).lower() for m in _PEER_LOST)
    if ranks == 1 or not known:
        return None
    said = first_line(error)[:200]
    return TrainingError(
        f"rank {rank} of {ranks} lost the others {doing}: a process died, or the network was cut for longer than "
        f"grpo.deadline_s ({said}). Start the same command again on every host: it resumes from the last checkpoint"
    )


_PEER_LOST = ("gloo", "nccl", "timed out waiting", "connection closed", "connection reset", "broken pipe")

"""DeepSpeed's compiled operators: built once per machine, before any wait between processes has a deadline.

DeepSpeed compiles an operator where it first needs it. That is inside the call that joins the processes, so a deadline
around it would kill the compiler half-way, and torch's lock file, which nothing removes, would block every later start.
So this module builds the operators first: in their own folder, under a lock that the operating system releases when its
owner dies, and with a deadline long enough for a busy machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from r1rl.distributed.deadline import deadline
from r1rl.errors import ConfigError, TrainingError
from r1rl.tracking.messages import show_command_messages

log = logging.getLogger(__name__)

BUILD_S = 3600.0
"""Longest time for one operator: about 45 s on two idle cores, many minutes where other processes use them."""

_POLL_S = 0.2
_OWN = "r1rl-"


def needed(environment: Mapping[str, str], on_cpu: bool) -> list[str]:
    """Builders of the operators that a run launched with this environment loads, by DeepSpeed's names for them."""
    found = ["ShareMemCommBuilder"] if on_cpu and sys.platform == "linux" else []
    if environment.get("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "none") != "none":
        found.append("CPUAdamBuilder")
    return found


def build(names: list[str], limit_s: float = BUILD_S) -> None:
    """Load the operators into this process, compiling those that are not built yet. Every process of a host may call it
    at once.

    Args:
        names: as :func:`needed` returns them.
        limit_s: for each wait.

    Raises:
        ConfigError: there is no compiler, or it failed.
        TrainingError: the time was up.
    """
    if not names:
        return
    root = own_root(os.environ)
    os.environ["TORCH_EXTENSIONS_DIR"] = str(root)
    root.mkdir(parents=True, exist_ok=True)
    with locked(root / ".lock", limit_s):
        for name in names:
            _load(name, root, limit_s)


def own_root(environment: Mapping[str, str]) -> Path:
    """Where the operators of this machine are kept: below torch's folder for extensions, or TORCH_EXTENSIONS_DIR.

    Its name depends on everything that they are compiled for, so that after an upgrade, or on another processor with
    the same home folder, none are loaded that cannot run.
    """
    from torch.utils.cpp_extension import get_default_build_root

    above = Path(environment.get("TORCH_EXTENSIONS_DIR") or get_default_build_root())
    if above.name.startswith(_OWN):  # a process of r1rl set it
        return above
    return above / f"{_OWN}{_digest(_identity())}"


def _identity() -> list[str]:
    import deepspeed

    return [sys.version, torch.__version__, str(torch.version.cuda), deepspeed.__version__, _processor()]


def _processor() -> str:
    """DeepSpeed compiles for this exact processor (``-march=native``); its flags identify it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return f"{platform.machine()} {platform.processor()}"


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


@contextlib.contextmanager
def locked(file: Path, limit_s: float) -> Iterator[None]:
    """Hold an exclusive lock on ``file``. It is released when its owner ends, even when it is killed."""
    end, said = time.monotonic() + limit_s, False
    with file.open("a") as lock:
        while not _taken(lock, file):
            if time.monotonic() > end:
                raise TrainingError(f"another process has held {file} for {limit_s:g} s; end it, then start again")
            if not said:
                log.info("waiting for another process that compiles DeepSpeed's operators")
                said = True
            time.sleep(_POLL_S)
        yield


def _taken(lock: Any, file: Path) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be locked ({error}): set TORCH_EXTENSIONS_DIR to a folder on a local disk"
        ) from error
    return True


def _load(name: str, root: Path, limit_s: float) -> None:
    from deepspeed.accelerator import get_accelerator

    builder = get_accelerator().create_op_builder(name)
    if builder is None or not builder.is_compatible(verbose=False):
        return  # DeepSpeed works without it, or reports itself what is missing
    folder = root / builder.NAME
    (folder / "lock").unlink(missing_ok=True)  # of a process that was killed: a living one would hold our lock
    if not (folder / f"{builder.NAME}.so").exists():
        log.info(f"compiling DeepSpeed's operator {builder.NAME}, once per machine: a minute, or several on a busy one")
    try:
        _loaded(builder, limit_s)
    except ImportError:  # an interrupted compiler leaves files that cannot be loaded: build again
        shutil.rmtree(folder)
        log.info(f"compiling DeepSpeed's operator {builder.NAME} again: the earlier build cannot be loaded")
        _loaded(builder, limit_s)


def _loaded(builder: Any, limit_s: float) -> None:
    try:
        with deadline(limit_s, f"compiling DeepSpeed's operator {builder.NAME}"):
            builder.load(verbose=False)
    except (RuntimeError, subprocess.CalledProcessError, FileNotFoundError) as error:
        lines = [line for line in str(error).splitlines() if "error" in line.lower()] or str(error).splitlines()
        raise ConfigError(
            f"DeepSpeed's operator {builder.NAME} could not be compiled ({(lines or [repr(error)])[0][:300]}). "
            "It needs a C++ compiler (g++) and ninja"
        ) from error


def main() -> None:
    """``python -m r1rl.distributed.operators``: compile what the CPU needs now, so that no later start has to."""
    show_command_messages()
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    build(["ShareMemCommBuilder", "CPUAdamBuilder"])


if __name__ == "__main__":
    main()

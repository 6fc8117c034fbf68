"""Runs a stage in its own processes: ``accelerate launch`` with the stage's launch configuration."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import psutil

from r1rl.distributed.interrupt import PREEMPTED, SIGNALS, stopped
from r1rl.errors import R1Error

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.2


def launch_stage(launch: str, config: Path, stage: str) -> None:
    """Run one stage under ``accelerate launch --config_file LAUNCH`` and wait for it.

    The processes read the run's resolved configuration; they end when this process ends, for whatever reason. A signal
    that asks this process to end reaches them, not the launcher, which would give them half a minute at most.

    Raises:
        Preempted: a stop was requested; the same command resumes.
        R1Error: the processes failed; see their output above.
    """
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", launch]
    command += ["-m", "r1rl", "run", str(config), "--only", stage, "--launched"]
    with _noting_signals() as received:
        child = subprocess.Popen(command, preexec_fn=_before_launch())
        try:
            code = _wait(child, received)
        except BaseException:
            child.kill()  # its processes notice and end, too
            child.wait()
            raise
    if (config.parent / stage / PREEMPTED).exists() or (code and received):
        raise stopped(received[0] if received else None, f"stage {stage} was asked to end: its work is saved")
    if code:
        raise R1Error(f"stage {stage} failed under {launch} with exit code {code}; see its output above")


def _wait(child: subprocess.Popen[bytes], received: list[int]) -> int:
    """Wait for the launcher; returns its exit code. Once a signal is received, its processes get another
    stop signal: a scheduler may have sent them this one already, and a second of the same kind ends them at once.

    Raises: KeyboardInterrupt on a second Ctrl-C.
    """
    told: set[int] = set()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(_POLL_S)
        if received.count(signal.SIGINT) > 1:
            raise KeyboardInterrupt
        if received:
            with contextlib.suppress(psutil.NoSuchProcess):
                for process in psutil.Process(child.pid).children():
                    if process.pid not in told:
                        told.add(process.pid)
                        process.send_signal(next(other for other in SIGNALS if other != received[0]))


@contextlib.contextmanager
def _noting_signals() -> Iterator[list[int]]:
    """The stop signals received so far; inside they have no other effect."""
    received: list[int] = []
    before: dict[signal.Signals, signal._HANDLER] = {}

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def let_signals_through() -> None:
    """In a process of a launched stage: unblock the signals that :func:`launch_stage` blocked until the process was
    ready."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _before_launch() -> Callable[[], None]:
    """Runs in the child before the launcher starts. The launcher and its processes block the signals (schedulers send
    them to every process of a job at once); the processes unblock them when they are ready. On Linux the launcher dies
    with this process."""
    prctl = ctypes.CDLL(None).prctl if sys.platform.startswith("linux") else None

    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return prepare

"""Runs a stage in its own processes, on one machine or several: ``accelerate launch`` with the stage's launch file."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import psutil

from r1rl.distributed.interrupt import PREEMPTED, SIGNALS, Interrupt, stopped
from r1rl.errors import R1Error
from r1rl.recipe.layout import Machines, StageLayout
from r1rl.recipe.machines import Meeting, check_order

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.2
ALONE = Machines()


def launch_stage(at: StageLayout, config: Path, stage: str, machines: Machines = ALONE, port: int = 0) -> None:
    """Start this machine's processes of one stage by ``accelerate launch`` and wait for them.

    The processes read the run's resolved configuration; they end when this process ends, for whatever reason. A signal
    that asks this process to end reaches them, not the launcher, which would give them half a minute at most.

    Args:
        machines: all machines of the stage; on each of the others this function is called too.
        port: free port of the machine of rank 0, at which their launchers meet.

    Raises:
        Preempted: a stop was requested; the same command resumes.
        R1Error: the processes failed; see their output above.
    """
    command = command_line(at, config, stage, machines, port)
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
        file = at.launch.path if at.launch else ""
        raise R1Error(f"stage {stage} failed under {file} with exit code {code}; see its output above")


def command_line(at: StageLayout, config: Path, stage: str, machines: Machines, port: int) -> list[str]:
    """The command that starts this machine's processes of a stage. What it says wins over the launch file."""
    assert at.launch is not None
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(at.launch.path)]
    command += ["--num_processes", str(at.ranks)]
    if at.machines > 1:
        command += ["--num_machines", str(at.machines), "--machine_rank", str(machines.rank)]
        command += ["--main_process_ip", machines.address, "--main_process_port", str(port)]
        # By default accelerate hands DeepSpeed's own launcher the work, which logs in to the other machines by pdsh.
        command += ["--rdzv_backend", "static", "--deepspeed_multinode_launcher", "standard"]
    return [*command, "-m", "r1rl", "run", str(config), "--only", stage, "--launched"]


def follow(machines: Machines, gpus: int) -> None:
    """On a machine other than the first: start its processes of every stage that the first one orders, until the run
    is over.

    Args:
        gpus: visible GPUs of this machine; 0 on a CPU.

    Raises:
        Preempted: a stop was requested, here or there.
        R1Error: the run failed, here or there.
    """
    with Interrupt() as interrupt:
        meeting = Meeting(machines)
        try:
            for order in meeting.orders(interrupt):
                config, at = check_order(order, gpus), order.layout(machines.count)
                meeting.ready()
                log.info(f"{order.stage}: {at.processes} of {at.ranks} processes")
                launch_stage(at, config, order.stage, machines, order.port)
        except BaseException as error:
            meeting.leave(error)
            raise
        meeting.leave(None)


@contextlib.contextmanager
def leading(machines: Machines, interrupt: Interrupt) -> Iterator[Meeting | None]:
    """On the first machine: the connection to the others, once all are there; None where there are none.

    Raises: Preempted, TrainingError, see :meth:`Meeting.gather`.
    """
    if machines.count == 1:
        yield None
        return
    meeting = Meeting(machines)
    try:
        meeting.gather(interrupt)
        yield meeting
    except BaseException as error:
        meeting.end(error)
        raise
    meeting.end(None)


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

"""Ends a run on request, by a scheduler or Ctrl-C: at the next safe place, on every rank at once."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from r1rl.errors import R1Error

REQUEUE = 75
"""Exit code of a run that was asked to end and can be resumed later (EX_TEMPFAIL of sysexits.h)."""

PREEMPTED = "preempted"
"""File in the stage's folder while the run waits to be restarted: launchers do not pass exit codes on."""

REQUEUE_FILE = "R1RL_REQUEUE_FILE"
"""Environment variable of a scheduler's script: the file that records that a signal ended this start."""

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""SIGTERM is what schedulers send; USR1 is for those that can warn earlier (``sbatch --signal``); SIGINT is Ctrl-C."""

_PARENT_POLL_S = 0.2
_PROMPT = b"\nr1rl: stopping as soon as what is done is saved; Ctrl-C again ends at once\n"


class Interrupted(Exception):
    """Raised at a safe place: the weights are those of the last finished update. Says what was saved."""


class Preempted(R1Error):
    """The run ended early, on request, with its work saved; the same command resumes it."""

    exit_code = REQUEUE


class Stopped(Preempted):
    """The run ended because of Ctrl-C."""

    exit_code = 130


class Interrupt:
    """Turns the signals into a flag while it is entered; it may be nested. A second signal of the same kind has its
    usual effect at once.
    """

    def __init__(self) -> None:
        self.requested = False
        self._seen: list[int] = []
        self._depth = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._depth += 1
        if self._depth == 1 and threading.current_thread() is threading.main_thread():
            self._before = {int(s): signal.signal(s, self._set) for s in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth == 0:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def check(self) -> None:
        """Raises Interrupted if this process was asked to end."""
        if self.requested:
            raise Interrupted

    def requested_anywhere(self, gather: Callable[[list[Any]], list[Any]]) -> bool:
        """Whether any process was asked to end: one ``gather``, the same answer on all of them."""
        return any(gather([self.requested]))

    def ended(self, what: str) -> Preempted:
        """The error to raise once the work is saved: ``what`` was done, and the command that resumes."""
        return stopped(self._seen[0] if self._seen else None, what)

    def leave_mark(self, folder: Path) -> None:
        """Note in the stage's folder, and where a scheduler's script looks, that the run waits to be resumed."""
        if folder.is_dir():
            (folder / PREEMPTED).touch()
        asked = os.environ.get(REQUEUE_FILE)
        if asked and signal.SIGINT not in self._seen:
            Path(asked).touch()

    def _set(self, number: int, frame: FrameType | None) -> None:
        if number in self._seen:
            before = self._before[number]
            if callable(before):
                before(number, frame)
            else:
                signal.signal(number, before)
                os.kill(os.getpid(), number)
        else:
            self._seen.append(number)
            self.requested = True
            if number == signal.SIGINT and os.environ.get("LOCAL_RANK", "0") == "0":
                os.write(2, _PROMPT)


def stopped(number: int | None, what: str) -> Preempted:
    """The error of a run that ended on signal ``number``."""
    kind = Stopped if number == signal.SIGINT else Preempted
    command = same_command()
    return kind(f"{what}; the same command resumes from there{f': {command}' if command else ''}")


def same_command() -> str:
    """The command that started this process; empty if it was a launcher, or not ``r1rl``."""
    if "LOCAL_RANK" in os.environ:
        return ""
    program, *words = sys.argv or [""]
    path = Path(program)
    if path.name == "r1rl":
        return shlex.join(["r1rl", *words])
    return shlex.join(["python", "-m", "r1rl", *words]) if path.parts[-2:] == ("r1rl", "__main__.py") else ""


def end_with(parent: int) -> None:
    """End this process at once when ``parent`` is no longer its parent: its results are no longer needed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_POLL_S)
        os._exit(1)

    threading.Thread(target=watch, name="r1rl-parent", daemon=True).start()

"""Ending a run when the scheduler asks for it: at the next safe place, on every rank at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from r1rl.errors import R1Error

REQUEUE = 75
"""Exit code of a run that was asked to end and can go on later (EX_TEMPFAIL of sysexits.h)."""

PREEMPTED = "preempted"
"""Lies in the stage's folder while the run waits to be started again: launchers do not hand on exit codes."""

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""SIGTERM is what schedulers send; USR1 is for those that can warn earlier (``sbatch --signal``)."""


_PARENT_POLL_S = 0.2


class Interrupted(Exception):
    """Raised at a safe place: the weights are those of the last finished update."""


class Preempted(R1Error):
    """The run ended early, on request, with a checkpoint; the same command goes on from there."""

    exit_code = REQUEUE


class Interrupt:
    """Turns the signals into a flag while it is entered.

    A second signal of the same kind does not wait: it has its usual effect.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._set) for s in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raises Interrupted if this process was asked to end."""
        if self.requested:
            raise Interrupted

    def anywhere(self, gather: Callable[[list[Any]], list[Any]]) -> bool:
        """Whether any rank was asked to end; collective, the same answer on all."""
        return any(gather([self.requested]))

    def _set(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.requested = True
        signal.signal(number, self._before[signal.Signals(number)])


def end_with(parent: int) -> None:
    """End this process at once when ``parent`` is no longer its parent: nobody would read its results."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_POLL_S)
        os._exit(1)

    threading.Thread(target=watch, name="r1rl-parent", daemon=True).start()

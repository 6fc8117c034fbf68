"""A deadline for calls that cannot be given one, such as a collective or a library that blocks in C."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from r1rl.errors import EngineError

GRACE_S = 20.0
"""If the main thread has not returned from C this long after the interrupt, it never will."""


@contextmanager
def deadline(seconds: float, phase: str, rank: int = 0, grace_s: float = GRACE_S) -> Iterator[None]:
    """Give the block ``seconds``. After that every thread's stack is printed and the block is interrupted. If the block
    does not react (stuck in C), the process ends with status 70: a job that fails is noticed, one that hangs is not.

    Raises:
        EngineError: the time was up; names the rank and the phase.
    """
    watch = _Watch(seconds, f"rank {rank}: {phase} took more than {seconds:g} s", grace_s)
    before = signal.getsignal(signal.SIGINT)

    def interrupt(number: int, frame: FrameType | None) -> None:
        if watch.fired:  # the deadline's own, even where Ctrl-C is ignored or only recorded
            raise KeyboardInterrupt
        if callable(before):
            before(number, frame)

    own = _is_main() and (callable(before) or before is signal.SIG_IGN)
    if own:
        signal.signal(signal.SIGINT, interrupt)
    watch.start()
    try:
        yield
    except KeyboardInterrupt:
        if watch.fired:
            raise EngineError(f"{watch.message}; the stacks of all threads are on stderr") from None
        raise
    finally:
        watch.done.set()
        if own:
            signal.signal(signal.SIGINT, before)


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


class _Watch(threading.Thread):
    def __init__(self, seconds: float, message: str, grace_s: float) -> None:
        super().__init__(name="deadline", daemon=True)
        self.seconds, self.message, self.grace_s = seconds, message, grace_s
        self.done = threading.Event()
        self.fired = False

    def run(self) -> None:
        if self.done.wait(self.seconds):
            return
        self.fired = True
        print(f"r1rl: {self.message}; stacks of all threads:", file=sys.stderr, flush=True)
        faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        if not self.done.wait(self.grace_s):
            print(f"r1rl: {self.message} and cannot be interrupted; ending the process", file=sys.stderr, flush=True)
            os._exit(70)

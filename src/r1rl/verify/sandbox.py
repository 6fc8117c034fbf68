"""Killable calls: each runs in a worker process with limits on processor time, wall time and memory."""

from __future__ import annotations

import os
import queue
import select
import signal
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

from r1rl.errors import R1Error
from r1rl.verify.host import CONTROL_S, Host
from r1rl.verify.sandbox_host import FORBIDDEN_EXIT, receive, send

_WORK = "r1rl.verify.sandbox_host:answer_checks"
_QUEUE_S = 600.0
_MAX_CALLS = 2_000
"""Number of calls after which a worker is replaced, so that caches inside libraries cannot grow without bound."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one call."""

    cpu_s: float = 1.0
    wall_s: float = 30.0
    """Wall time, reached only by a worker that sleeps or on an overloaded machine."""
    memory_mb: int = 1024


class CallLost(Exception):
    """The worker did not return a result; ``reason`` is the cause.

    ``cpu`` and ``wall`` are its time limits, ``memory`` and ``recursion`` its other limits; ``killed`` and ``died``
    mean that it was killed from outside or exited, ``forbidden`` an attempt to reach outside the sandbox.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"the worker was lost: {reason}")
        self.reason = reason


class CallFailed(Exception):
    """The function itself raised; the message is the exception's type and text."""


class _Worker:
    """One worker process as seen from the trainer."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self.channel = channel
        self.calls = 0


class Sandbox:
    """A pool of killable workers; all methods are thread-safe.

    Workers start when first needed. ``preload`` names the modules that the host imports before it forks them (and
    whose ``warm_up`` it runs).
    """

    def __init__(self, workers: int = 2, limits: Limits | None = None, preload: Sequence[str] = ()) -> None:
        self.limits = limits or Limits()
        self._preload = tuple(preload)
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._host: Host | None = None
        self._closed = False
        self._slots: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(workers):
            self._slots.put(None)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="r1rl-sandbox")

    def start(self) -> None:
        """Start the host in the background."""
        self._current_host()

    def call(self, function: str, *arguments: Any) -> Any:
        """Run ``package.module:function`` in a worker on JSON-able arguments.

        Raises: CallLost if the worker was lost, CallFailed if the function raised, R1Error if no worker starts or
            is free in time.
        """
        if os.getpid() != self._owner:
            raise R1Error("a sandbox does not survive a fork; make one in the new process")
        slot, kept = self._free_slot(), None
        try:
            worker = slot if slot is not None and self._alive(slot) else self._fork()
            reply = self._ask(worker, function, arguments)
            worker.calls += 1
            if "lost" in reply or worker.calls >= _MAX_CALLS or reply["peak_mb"] > self.limits.memory_mb // 2:
                self._end(worker)
            else:
                kept = worker
        finally:
            self._slots.put(kept)  # a worker interrupted during a call is not reused
        if "lost" in reply:
            raise CallLost(reply["lost"])
        if "error" in reply:
            raise CallFailed(reply["error"])
        return reply["ok"]

    def _free_slot(self) -> _Worker | None:
        """A slot's idle worker, None if it has none yet. Waits for the other threads' calls to end."""
        try:
            return self._slots.get(timeout=_QUEUE_S)
        except queue.Empty:
            raise R1Error(
                f"no worker that checks answers was free within {_QUEUE_S:g} s; raise scoring.workers, or lower "
                "scoring.wall_seconds"
            ) from None

    def map(self, function: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run one function on many arguments, over all workers; returns the result, CallLost or CallFailed of each."""

        def one(given: tuple[Any, ...]) -> Any:
            try:
                return self.call(function, *given)
            except (CallLost, CallFailed) as failure:
                return failure

        return list(self._threads.map(one, arguments))

    @property
    def started(self) -> bool:
        """Whether the host is running, as it is after the first call."""
        return self._host is not None

    def host_pid(self) -> int:
        """Process id of the host, whose children are the workers; starts it."""
        return self._current_host().pid

    def pids(self) -> list[int]:
        """Process ids of the idle workers."""
        return [worker.pid for worker in list(self._slots.queue) if worker is not None]

    def close(self) -> None:
        """End the workers and their host."""
        with self._lock:
            self._closed = True
            host, self._host = self._host, None
        self._threads.shutdown(wait=False, cancel_futures=True)
        if host is not None and os.getpid() == self._owner:
            host.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _current_host(self) -> Host:
        with self._lock:
            if self._closed:
                raise R1Error("this sandbox is closed")
            if self._host is None:
                self._host = Host(_WORK, self._preload)
            return self._host

    def _replace_host(self, broken: Host) -> None:
        with self._lock:
            if self._host is broken:
                self._host = None
        broken.kill()

    def _fork(self) -> _Worker:
        for _ in range(3):
            host = self._current_host()
            try:
                pid, channel = host.fork(limits=asdict(self.limits))
                channel.settimeout(self.limits.wall_s + CONTROL_S)
                return _Worker(pid, channel)
            except (OSError, EOFError):
                self._replace_host(host)
        raise R1Error(
            "the worker processes that check answers do not start; "
            "`python -c 'import r1rl.verify.symbolic'` may show why"
        )

    def _alive(self, worker: _Worker) -> bool:
        """Whether an idle worker is alive; data on its socket without a request means that it has ended."""
        if not _readable(worker.channel, deadline=0.0):
            return True
        self._end(worker)
        return False

    def _ask(self, worker: _Worker, function: str, arguments: tuple[Any, ...]) -> dict[str, Any]:
        """Send a request and wait for the reply within the wall limit."""
        deadline = time.monotonic() + self.limits.wall_s
        try:
            send(worker.channel, [function, list(arguments)])
            while not _readable(worker.channel, deadline):
                if time.monotonic() >= deadline:
                    self._end(worker)
                    raise CallLost("wall")
            reply: dict[str, Any] = receive(worker.channel)
        except (OSError, EOFError):
            raise CallLost(_reason(self._end_code(worker))) from None
        return reply

    def _end(self, worker: _Worker) -> None:
        self._end_code(worker)

    def _end_code(self, worker: _Worker) -> int:
        """Kill a worker and return how it had ended; a host that does not answer is replaced."""
        host = self._current_host()
        try:
            worker.channel.close()
            return host.end(worker.pid)
        except (OSError, EOFError):
            self._replace_host(host)
            return -signal.SIGKILL


def _readable(channel: socket.socket, deadline: float) -> bool:
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))


def _reason(code: int) -> str:
    if code == -signal.SIGPROF:
        return "cpu"
    if code == FORBIDDEN_EXIT:
        return "forbidden"
    return "killed" if code == -signal.SIGKILL else "died"

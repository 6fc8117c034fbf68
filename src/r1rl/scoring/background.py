"""Runs reward functions in the trainer's own process: a daemon thread for each, one event loop for coroutines."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from r1rl.config.rewards import ScoringConfig
from r1rl.errors import RewardError
from r1rl.scoring.function import CallResult, Lost, RewardFunction
from r1rl.types import Group
from r1rl.verify import Checker

_STOP_S = 2.0
_CANCEL_S = 5.0
"""Time a coroutine has to react to its cancellation."""


class Call(Future[CallResult | Lost]):
    """A submitted call. ``started`` is None while it is queued."""

    def __init__(self) -> None:
        super().__init__()
        self.started: float | None = None

    def overdue(self, limit_s: float) -> bool:
        """Whether it has exceeded the time limit."""
        return not self.done() and self.started is not None and time.monotonic() - self.started > limit_s


class _Lane:
    """Calls of one synchronous function, one at a time, as functions may not be reentrant."""

    def __init__(self, function: RewardFunction, checker: Checker, gpu: int | None) -> None:
        self._function, self._checker, self._gpu = function, checker, gpu
        self._queue: queue.SimpleQueue[tuple[Call, Group, Mapping[str, Any] | None] | None]
        self._queue = queue.SimpleQueue()
        threading.Thread(target=self._work, name=f"r1rl-reward-{function.name}", daemon=True).start()

    def start(self, group: Group, state: Mapping[str, Any] | None) -> Call:
        call = Call()
        self._queue.put((call, group, state))
        return call

    def close(self) -> None:
        self._queue.put(None)

    def _work(self) -> None:
        _use(self._gpu)
        while (item := self._queue.get()) is not None:
            call, group, state = item
            if not call.set_running_or_notify_cancel():
                continue
            call.started = time.monotonic()
            try:
                request = self._function.signature.request(group, state)
                result = contextvars.Context().run(self._function.run, request, self._checker)
            except BaseException as error:  # passed to the caller, which decides
                call.set_exception(error)
            else:
                call.set_result(result)


class Background:
    """Runs the functions that stay in the trainer, so that a hung one neither blocks the trainer nor keeps it from
    exiting.

    Synchronous functions run in daemon threads, which cannot be killed. Coroutines run in one event loop, at most
    ``scoring.concurrency`` per function at once, and are cancelled at their time limit.
    """

    def __init__(self, functions: Mapping[str, RewardFunction], scoring: ScoringConfig, checker: Checker) -> None:
        self._functions, self._checker, self._limit_s = dict(functions), checker, scoring.function_timeout_s
        coroutines = [name for name, function in functions.items() if function.signature.is_async]
        self._gpu = _current_gpu()
        lanes = (name for name in functions if name not in coroutines)
        self._lanes = {name: _Lane(functions[name], checker, self._gpu) for name in lanes}
        self._slots = {name: asyncio.Semaphore(scoring.concurrency) for name in coroutines}
        self._calls: set[Call] = set()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def start(self, name: str, group: Group, state: Mapping[str, Any] | None) -> Call:
        """Queue a call of a function on a group; returns at once, thread-safe."""
        if self._closed:
            raise RuntimeError("this scorer is closed")
        if name in self._lanes:
            call = self._lanes[name].start(group, state)
        else:
            call = Call()
            asyncio.run_coroutine_threadsafe(self._await(call, name, group, state), self._event_loop())
        with self._lock:
            self._calls.add(call)
        call.add_done_callback(self._forget)
        return call

    def check(self, name: str, call: Future[CallResult | Lost]) -> None:
        """Raises RewardError if a call exceeds its time limit and cannot be stopped."""
        patience = self._limit_s + (_CANCEL_S if name in self._slots else 0.0)
        if isinstance(call, Call) and not self._functions[name].limits_itself and call.overdue(patience):
            raise RewardError(
                f"reward {name!r} ran for more than {self._limit_s:g} s on one group, in the trainer, where it cannot "
                f"be stopped; make it faster, raise scoring.function_timeout_s or set rewards.{name}.where: process"
            )

    def close(self) -> None:
        """End the threads, the loop and what functions keep. A call that hangs is left to its daemon thread."""
        if self._closed:
            return
        self._closed = True
        for lane in self._lanes.values():
            lane.close()
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            call.cancel()
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(_stop_loop(), self._loop)
        for function in self._functions.values():
            function.close()

    async def _await(self, call: Call, name: str, group: Group, state: Mapping[str, Any] | None) -> None:
        async with self._slots[name]:
            if not call.set_running_or_notify_cancel():
                return
            call.started = time.monotonic()
            try:
                request = self._functions[name].signature.request(group, state)
                running = self._functions[name].run_async(request, self._checker)
                limit_s = None if self._functions[name].limits_itself else self._limit_s
                result: CallResult | Lost = await asyncio.wait_for(running, limit_s)
            except TimeoutError:  # the function's own errors arrive as RewardError
                result = Lost("timeouts", time.monotonic() - call.started)
            except BaseException as error:  # passed to the caller, which decides
                call.set_exception(error)
                return
            call.set_result(result)

    def _forget(self, call: Future[CallResult | Lost]) -> None:
        with self._lock:
            self._calls.discard(call)

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._run, args=(self._loop,), name="r1rl-scoring-loop", daemon=True).start()
            return self._loop

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        _use(self._gpu)
        loop.run_forever()


def _current_gpu() -> int | None:
    """The GPU of the calling thread; None where torch uses none. Does not import torch."""
    torch = sys.modules.get("torch")
    return torch.cuda.current_device() if torch is not None and torch.cuda.is_initialized() else None


def _use(gpu: int | None) -> None:
    """Make it the calling thread's GPU: a new thread starts on the first one, whatever the rank."""
    if gpu is not None:
        sys.modules["torch"].cuda.set_device(gpu)


async def _stop_loop() -> None:
    """Cancel all running tasks, let them clean up, and stop the event loop."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=_STOP_S)
    asyncio.get_running_loop().stop()

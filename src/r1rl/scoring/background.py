"""Calls that run while the trainer does something else: daemon threads for functions, one event loop for coroutines."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from typing import Any

_POLL_S = 0.2
_STOP_S = 2.0


class Call:
    """A call under way. ``started`` is None while it waits for its turn."""

    def __init__(self, label: str, future: Future[Any]) -> None:
        self.label = label
        self.future = future
        self.started: float | None = None

    def overdue(self, limit_s: float) -> bool:
        """Whether it has been running for longer than the limit."""
        return not self.future.done() and self.started is not None and time.monotonic() - self.started > limit_s


class Overdue(Exception):
    """A call has run past its limit; the argument is its label."""


class Background:
    """Runs calls in daemon threads, so that a hung one can neither block the trainer nor keep it from exiting."""

    def __init__(self, threads: int) -> None:
        self._queue: queue.SimpleQueue[tuple[Call, Callable[[], Any]] | None] = queue.SimpleQueue()
        self._calls: set[Call] = set()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"r1rl-scoring-{index}", daemon=True) for index in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, label: str, function: Callable[[], Any]) -> Call:
        """Call a function in one of the threads."""
        call = self._register(label, Future())
        self._queue.put((call, function))
        return call

    def run_async(self, label: str, coroutine: Callable[[], Coroutine[Any, Any, Any]]) -> Call:
        """Run a coroutine in the event loop, next to the others."""
        call = self._register(label, Future())
        call.started = time.monotonic()
        inner = asyncio.run_coroutine_threadsafe(coroutine(), self._event_loop())
        inner.add_done_callback(lambda done: _copy_result(done, call.future))
        call.future.add_done_callback(lambda done: inner.cancel() if done.cancelled() else None)
        return call

    def wait(self, call: Call, limit_s: float) -> Any:
        """The call's result, or what it raised. Raises Overdue once any call has run for longer than the limit."""
        while not call.future.done():
            wait_for([call.future], timeout=min(_POLL_S, limit_s))
            for running in self._running():
                if running.overdue(limit_s):
                    raise Overdue(running.label)
        return call.future.result()

    def close(self) -> None:
        """End the threads and the loop. A call that hangs is left to its daemon thread."""
        if self._closed:
            return
        self._closed = True
        for _ in self._threads:
            self._queue.put(None)
        for call in self._running():
            call.future.cancel()
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(_stop_loop(), self._loop)

    def _register(self, label: str, future: Future[Any]) -> Call:
        if self._closed:
            raise RuntimeError("this scorer is closed")
        call = Call(label, future)
        with self._lock:
            self._calls.add(call)
        future.add_done_callback(lambda _: self._forget(call))
        return call

    def _forget(self, call: Call) -> None:
        with self._lock:
            self._calls.discard(call)

    def _running(self) -> list[Call]:
        with self._lock:
            return list(self._calls)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            call, function = item
            if not call.future.set_running_or_notify_cancel():
                continue
            call.started = time.monotonic()
            try:
                result = contextvars.Context().run(function)
            except BaseException as error:  # handed to the caller, which decides
                call.future.set_exception(error)
            else:
                call.future.set_result(result)

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="r1rl-scoring-loop", daemon=True).start()
            return self._loop


async def _stop_loop() -> None:
    """Cancel what still runs, let it clean up, and end the loop that this runs in."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=_STOP_S)
    asyncio.get_running_loop().stop()


def _copy_result(done: Future[Any], target: Future[Any]) -> None:
    if done.cancelled() or target.cancelled() or not target.set_running_or_notify_cancel():
        target.cancel()
    elif error := done.exception():
        target.set_exception(error)
    else:
        target.set_result(done.result())

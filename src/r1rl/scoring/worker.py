"""The main program of a worker process: it loads the reward functions of one file and answers calls, one message at a
time.

Requests are pickled by the trainer; replies are JSON, since other people's code runs here on text that a model wrote,
and nothing it sends may become code in the trainer. Each message is preceded by its length.

A synchronous function runs in the main thread, where ``signal.alarm`` works, outside any event loop, so that
``asyncio.run`` works too. Coroutines share an event loop in a second thread.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from r1rl.errors import RewardError
from r1rl.scoring.function import CallRequest, RewardFunction
from r1rl.scoring.load import REWARDS, bind, is_torch_module
from r1rl.verify import Checker, Limits
from r1rl.verify.sandbox_host import die_with, exactly

HEADER = struct.Struct("!QQ")
"""Number of the call, length of the message."""


@dataclass(frozen=True, slots=True)
class Setup:
    """The first message: what to load, and the trainer's environment."""

    functions: Mapping[str, tuple[str, Mapping[str, Any]]]
    """Each reward's location and bound arguments, by the reward's name."""
    folder: str
    path: Sequence[str]
    """``sys.path``."""
    workers: int
    limits: Limits
    """For the answer checks that the functions request."""
    only_look: bool
    """Only import the functions, without making or calling anything."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel a coroutine; its call is still answered."""

    call: int


ToWorker = Setup | CallRequest | Cancel


def packed(number: int, message: ToWorker) -> bytes:
    """Encode a message for a worker. Raises whatever pickling a column raises."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return HEADER.pack(number, len(body)) + body


def answer_calls(channel: socket.socket, host: int, request: Mapping[str, Any]) -> NoReturn:
    """The entry point that the host runs in each process it forks."""
    code = 1
    try:
        die_with(host)
        os.setsid()  # so that processes started by a function can be found and ended with it
        for ordinary in (signal.SIGINT, signal.SIGTERM):
            signal.signal(ordinary, signal.SIG_DFL)
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
        os.register_at_fork(after_in_child=channel.close)
        _Worker(channel).serve()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


class _Worker:
    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._sending = threading.Lock()
        self._process = os.getpid()
        self._functions: dict[str, RewardFunction] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def serve(self) -> NoReturn:
        """Answer requests until the trainer is gone, then raise EOFError."""
        while True:
            number, length = HEADER.unpack(exactly(self._channel, HEADER.size))
            body = exactly(self._channel, length)
            try:
                reply = self._reply(number, pickle.loads(body))
            except BaseException as error:
                reply = _failed(error)
            if os.getpid() != self._process:
                os._exit(0)  # a child that a function forked and that returned
            if reply is not None:
                self._send(number, reply)

    def _reply(self, number: int, message: ToWorker) -> dict[str, Any] | None:
        """The answer, or None if it follows later or never."""
        if isinstance(message, Setup):
            return self._set_up(message)
        if isinstance(message, Cancel):
            self._cancel(message.call)
            return None
        function = self._functions[message.name]
        if function.signature.is_async:
            self._begin(number, function, message)
            return None
        return {"ok": asdict(function.run(message, self._checker))}

    def _set_up(self, setup: Setup) -> dict[str, Any]:
        """Load the functions; returns the signature of each, or None for a torch module, which must run in the
        trainer."""
        os.chdir(setup.folder)
        sys.path[:] = setup.path
        self._checker = Checker(setup.workers, setup.limits)
        found: dict[str, Any] = {}
        for name, (use, args) in setup.functions.items():
            imported = REWARDS.load(use)
            if setup.only_look:
                continue
            made = bind(name, imported, args)
            if is_torch_module(made):
                found[name] = None
                continue
            function = self._functions[name] = RewardFunction(name, made)
            found[name] = asdict(function.signature)
        return {"ok": found}

    def _begin(self, number: int, function: RewardFunction, request: CallRequest) -> None:
        def start(loop: asyncio.AbstractEventLoop) -> None:
            self._tasks[number] = loop.create_task(self._await(number, function, request))

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="r1rl-async-rewards", daemon=True).start()
        self._loop.call_soon_threadsafe(start, self._loop)

    def _cancel(self, number: int) -> None:
        """Cancel a coroutine; the answer is sent when it has ended, so a blocked loop sends none."""

        def cancel() -> None:
            if task := self._tasks.get(number):
                task.cancel()

        if self._loop is not None:
            self._loop.call_soon_threadsafe(cancel)

    async def _await(self, number: int, function: RewardFunction, request: CallRequest) -> None:
        try:
            reply: dict[str, Any] = {"ok": asdict(await function.run_async(request, self._checker))}
        except asyncio.CancelledError:
            reply = {"lost": "timeouts"}
        except BaseException as error:
            reply = _failed(error)
        del self._tasks[number]
        self._send(number, reply)

    def _send(self, number: int, reply: Mapping[str, Any]) -> None:
        sys.stdout.flush()
        body = json.dumps(reply, default=_plain).encode("ascii")
        with self._sending:
            self._channel.sendall(HEADER.pack(number, len(body)) + body)


def _failed(error: BaseException) -> dict[str, Any]:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            return {"lost": "memory"}
        cause = cause.__cause__
    if isinstance(error, RewardError):
        return {"error": str(error)}
    return {"error": f"{type(error).__name__}: {error}"}


def _plain(value: Any) -> Any:
    """Convert values that JSON cannot represent: arrays and tensors to lists, anything else to text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)

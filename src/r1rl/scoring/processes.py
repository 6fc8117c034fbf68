"""Runs reward functions in worker processes: assigns calls, enforces limits and replaces lost processes.

One event loop in its own thread talks to all workers. The functions of one file share a process, and thus its globals
and caches, and run there one at a time; the processes run in parallel. A process that hangs, dies or exceeds its memory
limit is replaced: the call it was running is lost, calls that only waited for it are repeated.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from r1rl.config.rewards import RewardConfig, ScoringConfig
from r1rl.errors import R1Error, RewardError
from r1rl.scoring.function import CallRequest, CallResult, Lost, Signature
from r1rl.scoring.load import REWARDS, place_of
from r1rl.scoring.worker import HEADER, Cancel, Setup, ToWorker, packed
from r1rl.types import Group
from r1rl.verify import Limits
from r1rl.verify.host import Host
from r1rl.verify.offspring import MEMORY_EXIT

Result = TypeVar("Result")

_WORK = "r1rl.scoring.worker:answer_calls"
_STDERR = 2
_LOAD_S = 900.0
"""Time limit for loading the functions of one file."""
_CANCEL_S = 5.0
"""Time a coroutine has to react to its cancellation."""
_STOP_S = 30.0
_ATTEMPTS = 3
_SUSPECTED = 2
"""A call is given up after this many processes have died while running it among others."""


class _Gone(Exception):
    """The process ended during a call. ``suspects`` counts the calls that may be the cause; 0 if this call is not
    one."""

    def __init__(self, reason: str, suspects: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.suspects = suspects


@dataclass
class _Call:
    reply: asyncio.Future[dict[str, Any]]
    alone: bool
    """Whether it has the main thread."""


class _Process:
    """One worker process; calls and replies are matched by number."""

    def __init__(self, host: Host, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._host, self._pid, self._reader, self._writer = host, pid, reader, writer
        self._numbers = itertools.count()
        self._calls: dict[int, _Call] = {}
        self._ending: asyncio.Task[None] | None = None
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, host: Host, memory_mb: int) -> _Process:
        """Fork a process. Raises OSError or EOFError if the host cannot."""
        pid, channel = await asyncio.to_thread(host.fork, tree_mb=memory_mb)
        reader, writer = await asyncio.open_connection(sock=channel)
        return cls(host, pid, reader, writer)

    @property
    def alive(self) -> bool:
        return self._ending is None and not self._listening.done()

    async def ask(self, message: ToWorker, limit_s: float, *, alone: bool) -> dict[str, Any]:
        """Send a call and await the reply. Raises _Gone if the process is lost meanwhile, because of this call or
        another."""
        number = next(self._numbers)
        try:
            body = packed(number, message)
        except Exception as error:  # a column's own pickling may raise anything
            raise RewardError(f"a column cannot be sent to a reward's process ({error}); set where: trainer") from error
        call = self._calls[number] = _Call(asyncio.get_running_loop().create_future(), alone)
        self._writer.write(body)
        done, _ = await asyncio.wait([call.reply], timeout=limit_s)
        if not done and not alone:
            self._writer.write(packed(number, Cancel(number)))
            done, _ = await asyncio.wait([call.reply], timeout=_CANCEL_S)
        if not done:
            del self._calls[number]
            await self.end()
            raise _Gone("timeouts", 1)
        return call.reply.result()

    async def end(self) -> None:
        """Kill the process and the processes it started; other calls that ran in it are not counted as suspects."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._bury(innocent=True))
        await asyncio.shield(self._ending)

    async def _listen(self) -> None:
        try:
            while True:
                number, length = HEADER.unpack(await self._reader.readexactly(HEADER.size))
                reply = json.loads(await self._reader.readexactly(length))
                if (call := self._calls.pop(number, None)) and not call.reply.done():
                    call.reply.set_result(reply)
        except (
            OSError,
            EOFError,
            ValueError,
        ):  # ValueError: not a valid reply, so the process cannot be trusted
            pass
        if self._ending is None:
            self._ending = asyncio.create_task(self._bury(innocent=False))

    async def _bury(self, innocent: bool) -> None:
        self._writer.close()
        try:
            code = await asyncio.to_thread(self._host.end, self._pid)
        except (OSError, EOFError):
            code = -signal.SIGKILL
        reason = "memory" if code == MEMORY_EXIT else "crashes"
        innocent = innocent or code == -signal.SIGTERM  # a scheduler signalled every process to end
        calls = [call for call in self._calls.values() if not call.reply.done()]
        culprits = [call for call in calls if call.alone] or calls
        for call in calls:
            suspected = not innocent and call in culprits
            call.reply.set_exception(_Gone(reason, len(culprits) if suspected else 0))


class _Slot:
    """A place for a process, which is started when needed and replaced when lost."""

    def __init__(self, pool: _Pool) -> None:
        self._pool = pool
        self._process: _Process | None = None
        self._starting = asyncio.Lock()
        self.turn = asyncio.Lock()
        """Held while a synchronous function has the main thread."""

    async def process(self) -> _Process:
        """The process with its functions loaded. Raises RewardError if it does not start or load."""
        async with self._starting:
            if self._process is None or not self._process.alive:
                self._process = await self._pool.start()
            return self._process


class _Pool:
    """The processes for the functions of one file."""

    def __init__(self, parent: Processes, functions: Mapping[str, RewardConfig], processes: int) -> None:
        self._parent, self.functions = parent, dict(functions)
        self.signatures: dict[str, Signature] = {}
        self._slots = [_Slot(self) for _ in range(processes)]
        self._free: asyncio.Queue[_Slot] = asyncio.Queue()
        for slot in self._slots:
            self._free.put_nowait(slot)
        self._beside = {name: asyncio.Semaphore(parent.scoring.concurrency) for name in functions}
        self._rotation = itertools.cycle(self._slots)

    async def load(self) -> None:
        """Start all processes and read the functions' signatures. Raises RewardError."""
        await asyncio.gather(*(slot.process() for slot in self._slots))

    async def call(self, name: str, group: Group, state: Mapping[str, Any] | None) -> CallResult | Lost:
        """Call a function on a group; repeats the call if the process was lost because of another call."""
        signature = self.signatures[name]
        request = signature.request(group, state)
        suspected, began = 0, time.monotonic()
        while True:
            try:
                reply = await (self._async(request) if signature.is_async else self._sync(request))
            except _Gone as gone:
                suspected += gone.suspects > 0
                if gone.suspects == 1 or suspected == _SUSPECTED:
                    return Lost(gone.reason, time.monotonic() - began)
                continue
            if "lost" in reply:
                return Lost(reply["lost"], time.monotonic() - began)
            return CallResult(**_ok(reply))

    async def start(self) -> _Process:
        """A new process with the functions loaded. Raises RewardError."""
        process = await self._parent.fork()
        setup = Setup(
            functions={name: (config.function or name, config.args) for name, config in self.functions.items()},
            folder=os.getcwd(),
            path=list(sys.path),
            workers=self._parent.scoring.workers,
            limits=limits_of(self._parent.scoring),
            only_look=self._parent.only_look,
        )
        names = ", ".join(map(repr, self.functions))
        try:
            found = _ok(await process.ask(setup, _LOAD_S, alone=True))
        except _Gone as gone:
            raise RewardError(f"reward {names} does not load: its process {_ENDS[gone.reason]}") from gone
        except RewardError:
            await process.end()
            raise
        self.signatures = {name: _signature(one) for name, one in found.items() if one is not None}
        return process

    async def _sync(self, request: CallRequest) -> dict[str, Any]:
        slot = await self._free.get()
        try:
            process = await slot.process()
            async with slot.turn:
                reply = await self._ask(process, request, alone=True)
            if reply.get("lost") == "memory":
                await process.end()
            return reply
        finally:
            self._free.put_nowait(slot)

    async def _async(self, request: CallRequest) -> dict[str, Any]:
        async with self._beside[request.name]:
            slot = next(self._rotation)
            process = await slot.process()
            async with slot.turn:  # the message would wait behind a synchronous call
                pass
            return await self._ask(process, request, alone=False)

    async def _ask(self, process: _Process, request: CallRequest, *, alone: bool) -> dict[str, Any]:
        return await process.ask(request, self._parent.scoring.function_timeout_s, alone=alone)


_ENDS = {
    "timeouts": f"was not finished after {_LOAD_S:g} s",
    "memory": "held more than scoring.function_memory_mb",
    "crashes": "ended; its stderr output may show why",
}


class Processes:
    """The worker processes of a run; all methods are thread-safe.

    ``signatures`` holds the arguments that each function requests. A ``torch.nn.Module`` has none: it runs in the
    trainer, on its device.

    Raises: RewardError for a function that cannot be loaded.
    """

    def __init__(self, rewards: Mapping[str, RewardConfig], scoring: ScoringConfig, *, only_look: bool = False) -> None:
        self.scoring, self.only_look = scoring, only_look
        self._owner = os.getpid()
        self._host: Host | None = None
        self._hosting = asyncio.Lock()
        self._pools = [_Pool(self, functions, count) for functions, count in _by_file(rewards)]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="r1rl-rewards", daemon=True)
        self._thread.start()
        self._closed = False
        try:
            self._submit(self._load()).result()  # bounded by _LOAD_S
        except BaseException:
            self.close()
            raise
        self._pool_of = {name: pool for pool in self._pools for name in pool.signatures}
        self.signatures = {name: pool.signatures[name] for name, pool in self._pool_of.items()}

    def start(self, name: str, group: Group, state: Mapping[str, Any] | None) -> Future[CallResult | Lost]:
        """Queue a call of a function on a group. The future raises RewardError if the function raises or breaks its
        contract."""
        if os.getpid() != self._owner:
            raise R1Error("reward processes do not survive a fork; make a Scorer in the new process")
        return self._submit(self._pool_of[name].call(name, group, state))

    def host_pid(self) -> int | None:
        """Process id of the host, whose children are the workers; None if no function needs one."""
        return self._host.pid if self._host is not None else None

    def close(self) -> None:
        """End the processes and everything they have started."""
        if self._closed or os.getpid() != self._owner:
            return
        self._closed = True
        if self._host is not None:
            self._host.close()
        asyncio.run_coroutine_threadsafe(_stop(), self._loop)
        self._thread.join(_STOP_S)

    async def fork(self) -> _Process:
        """A new process without functions. Raises RewardError if it cannot be started."""
        async with self._hosting:
            for _ in range(_ATTEMPTS):
                host = self._host = self._host or Host(_WORK, [_WORK.partition(":")[0]], output=_STDERR)
                try:
                    return await _Process.start(host, self.scoring.function_memory_mb)
                except (OSError, EOFError):
                    self._host = None
                    await asyncio.to_thread(host.kill)
        raise RewardError("the process for the reward functions does not start; its host's stderr output may show why")

    async def _load(self) -> None:
        await asyncio.gather(*(pool.load() for pool in self._pools))

    def _submit(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)


def in_trainer(name: str, config: RewardConfig) -> bool:
    """Whether a reward runs in the trainer's process: as configured; by default r1rl's own rewards, which run whatever
    could hang in workers themselves, and rewards that exist only in this process."""
    if config.where is not None:
        return config.where == "trainer"
    place, ours = place_of(config.function or name)
    return ours or place == "__main__"


def look_for(rewards: Mapping[str, RewardConfig]) -> None:
    """Find the functions, each in the process that would run it, without constructing or calling anything. Raises
    RewardError."""
    apart = {name: config for name, config in rewards.items() if not in_trainer(name, config)}
    Processes(apart, ScoringConfig(), only_look=True).close()
    for name in rewards.keys() - apart.keys():
        REWARDS.load(rewards[name].function or name)


def limits_of(scoring: ScoringConfig) -> Limits:
    """The limits of one check."""
    return Limits(scoring.cpu_seconds, scoring.wall_seconds, scoring.memory_mb)


def _by_file(rewards: Mapping[str, RewardConfig]) -> Iterator[tuple[dict[str, RewardConfig], int]]:
    """Groups of functions that share a process, with the number of such processes: those of one file, or a single one
    that requests its own."""
    shared: defaultdict[str, dict[str, RewardConfig]] = defaultdict(dict)
    for name, config in rewards.items():
        if config.processes is not None:
            yield {name: config}, config.processes
        else:
            shared[place_of(config.function or name)[0]][name] = config
    for functions in shared.values():
        yield functions, 1


def _ok(reply: Mapping[str, Any]) -> Any:
    if "error" in reply:
        raise RewardError(reply["error"])
    return reply["ok"]


def _signature(given: Mapping[str, Any]) -> Signature:
    lists = {key: tuple(given[key]) for key in ("wants", "required", "settled")}
    return Signature(**{**given, **lists})


async def _stop() -> None:
    """Cancel all running tasks, let them clean up, and stop the event loop."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=_STOP_S / 2)
    asyncio.get_running_loop().stop()

"""The servers of a pool and the state of each: a server gets work only while it is ready."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum

from r1rl.config.rollout import VLLMConfig
from r1rl.errors import EngineError
from r1rl.rollout.vllm.client import Client
from r1rl.rollout.vllm.process import ServerProcess
from r1rl.rollout.vllm.work_queue import WorkQueue

log = logging.getLogger(__name__)


class State(Enum):
    """STARTING → JOINING (answers, has no weights yet) → READY → DOWN → STARTING …, or GONE for good."""

    STARTING = "starting"
    JOINING = "joining"
    READY = "ready"
    DOWN = "down"
    GONE = "gone"


UP = (State.READY, State.JOINING)
"""States in which a server can be sent weights."""
COMING = (State.STARTING, State.DOWN)
"""States in which it may be able to later."""


class Server:
    """One server and its state. The lock ``weights`` is held while its weights are changed or probed.

    Args:
        process: None for a server that r1rl did not start.
    """

    def __init__(self, name: str, client: Client, process: ServerProcess | None, cfg: VLLMConfig):
        self.name, self.client, self.process, self.cfg = name, client, process, cfg
        self.state = State.STARTING
        self.version: int | None = None
        self.restarts = 0
        """Of its process."""
        self.attempts = 0
        """To bring it back: restarts, or for a server that r1rl did not start, waits since its last good probe."""
        self.problem = ""
        self.weights = threading.Lock()
        self.look = threading.Event()
        """Set to trigger the next probe at once."""

    def launch(self) -> None:
        """Start its process, if r1rl owns it, on a free port; and a client for the new process."""
        if self.process is None:
            self.client = self.client.renewed(self.client.url)
            return
        wanted = self.process.port
        self.process.move()
        if self.process.port != wanted:
            log.warning("%s: port %d is taken, using %d", self.name, wanted, self.process.port)
        self.client = self.client.renewed(self.process.url)
        self.process.start()

    def end(self) -> None:
        if self.process is not None:
            self.process.stop()
        self.client.close()


class Fleet:
    """All servers. States change only here, and with them which servers may take work from ``work``.

    Args:
        rank: for messages.
    """

    def __init__(self, servers: Sequence[Server], work: WorkQueue, rank: int) -> None:
        self.servers, self.work, self.rank = list(servers), work, rank
        self.failures = 0
        self.closing = threading.Event()
        self._changed = threading.Condition()

    def move(self, server: Server, state: State) -> None:
        """Give a server a new state."""
        with self._changed:
            server.state = state
            if state is State.READY:
                self.work.admit(server.name)
            elif state is State.GONE:
                self.work.retire(server.name)
            else:
                self.work.hold(server.name)
            self._changed.notify_all()

    def trust(self, server: Server) -> None:
        """A probe succeeded: the server may get work again if a request had failed on it."""
        with self._changed:
            if server.state is State.READY:
                self.work.admit(server.name)

    def lose(self, server: Server, problem: str) -> None:
        """A server is down: return its work to the queue."""
        if self.closing.is_set():
            return
        with self._changed:
            server.state, server.version, server.problem = State.DOWN, None, problem
            self.failures += 1
            again = self.work.evict(server.name)
            self._changed.notify_all()
        log.warning("%s is down: %s; %d groups are requested again", server.name, problem, again)

    def up(self) -> list[Server]:
        """Servers that can be sent weights."""
        with self._changed:
            return [server for server in self.servers if server.state in UP]

    def members(self, timeout_s: float) -> list[Server]:
        """Servers that can be sent weights. Unless some serve already, waits for all that are still on their way;
        those that are not up after ``timeout_s`` are left out."""
        until = time.monotonic() + timeout_s
        with self._changed:
            while self._assembling():
                self.check_alive()
                if time.monotonic() > until:
                    log.warning(
                        "weights are sent without the servers that are not up after %g s "
                        "(rollout.vllm.start_timeout_s): %s",
                        timeout_s,
                        self.status(),
                    )
                    break
                self._changed.wait(0.5)
        return self.up()

    def _assembling(self) -> bool:
        states = {server.state for server in self.servers}
        return State.READY not in states and not states.isdisjoint(COMING)

    def recheck(self) -> None:
        """Have every ready server probed before it gets more work: another rank changes its weights."""
        for server in self.servers:
            if server.state is State.READY:
                self.move(server, State.JOINING)

    def serving(self, version: int) -> list[Server]:
        """Servers that serve these weights."""
        with self._changed:
            return [server for server in self.servers if server.state is State.READY and server.version == version]

    def wait_for(self, found: Callable[[], list[Server]], version: int, timeout_s: float) -> None:
        """Wait until ``found`` returns a server; it is called again whenever a state changes.

        Raises:
            EngineError: no server is left, or none serves ``version`` in time.
        """
        until = time.monotonic() + timeout_s
        with self._changed:
            while not found():
                self.check_alive()
                if time.monotonic() > until:
                    raise EngineError(
                        f"rank {self.rank}: no vLLM server serves weight version {version} after {timeout_s:g} s "
                        f"(rollout.vllm.start_timeout_s); {self.status()}"
                    )
                self._changed.wait(0.5)

    def check_alive(self) -> None:
        """Raises EngineError where no server is left, or the engine was closed."""
        if self.closing.is_set():
            raise EngineError(f"rank {self.rank}: the vLLM servers were closed")
        if all(server.state is State.GONE for server in self.servers):
            raise EngineError(f"rank {self.rank}: no vLLM server is left; {self.status()}")

    def status(self) -> str:
        return "; ".join(f"{s.name} is {s.state.value}{': ' + s.problem if s.problem else ''}" for s in self.servers)

    def close(self) -> None:
        """Wake all waiting threads, so that they end."""
        self.closing.set()
        self.work.close()
        for server in self.servers:
            server.look.set()

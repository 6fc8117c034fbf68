"""One server of a pool: its state, and the thread that keeps it alive."""

from __future__ import annotations

import logging
import threading
import time
from enum import Enum
from typing import Protocol

from r1rl.config.rollout import VLLMConfig
from r1rl.errors import EngineError
from r1rl.rollout.vllm.check import SyncCheck
from r1rl.rollout.vllm.client import Client
from r1rl.rollout.vllm.process import ServerProcess

log = logging.getLogger(__name__)


class State(Enum):
    """STARTING → JOINING (answers, has no weights yet) → READY → DOWN → STARTING …, or GONE for good."""

    STARTING = "starting"
    JOINING = "joining"
    READY = "ready"
    DOWN = "down"
    GONE = "gone"


class Member:
    """A server with what is known of it. ``weights`` is held by whoever changes or probes its weights.

    Args:
        process: None for a server that somebody else runs.
    """

    def __init__(self, name: str, client: Client, process: ServerProcess | None, cfg: VLLMConfig, key: str | None):
        self.name, self.client, self.process, self.cfg, self.key = name, client, process, cfg, key
        self.state = State.STARTING
        self.version: int | None = None
        self.restarts = 0
        self.problem = ""
        self.doubted = False
        """A request failed since the last probe: it gets no further ones until a probe succeeds."""
        self.weights = threading.Lock()
        self.look = threading.Event()
        """Set to have the next probe at once."""

    def launch(self) -> None:
        """Start its process, if it is ours, where its port is free."""
        if self.process is None:
            return
        wanted = self.process.port
        self.process.move()
        if self.process.port != wanted:
            log.warning("%s: port %d is taken, using %d", self.name, wanted, self.process.port)
        if self.process.url != self.client.url:
            self.client.close()
            self.client = Client(
                self.process.url, self.key, request_s=self.cfg.request_timeout_s, sync_s=self.cfg.sync_timeout_s
            )
        self.process.start()

    def end(self) -> None:
        if self.process is not None:
            self.process.stop()
        self.client.close()


class Owner(Protocol):
    """What a keeper asks of the pool that its member belongs to."""

    closing: threading.Event
    check: SyncCheck

    def move(self, member: Member, state: State) -> None:
        """Give the member a new state."""

    def trust(self, member: Member) -> None:
        """A probe succeeded: it may get work again."""

    def down(self, member: Member, problem: str) -> None:
        """The member is lost: take its work back."""

    def catch_up(self, member: Member) -> bool:
        """Bring a member that is up to the current weights; False if it has to wait for the next sync."""

    def probe(self, member: Member) -> None:
        """Ask for one token and for log-probabilities of the current weights; EngineError if they are others'."""


class Keeper(threading.Thread):
    """Brings one member up, probes it, and brings it back when it fails."""

    def __init__(self, pool: Owner, member: Member) -> None:
        super().__init__(name=f"keeper-{member.name}", daemon=True)
        self.pool, self.member = pool, member

    def run(self) -> None:
        steps = {
            State.STARTING: self._start,
            State.JOINING: self._join,
            State.READY: self._watch,
            State.DOWN: self._revive,
        }
        while not self.pool.closing.is_set() and self.member.state is not State.GONE:
            state = self.member.state
            try:
                steps[state]()
            except (EngineError, OSError) as error:  # the latter where its process cannot be started
                self.pool.down(self.member, str(error))

    def _start(self) -> None:
        """Until it answers; its weights come after."""
        member = self.member
        until = time.monotonic() + member.cfg.start_timeout_s
        while not member.client.healthy():
            status = member.process.exited() if member.process else None
            if status is not None:
                tail = member.process.tail() if member.process else ""
                raise EngineError(f"it ended with status {status} while starting; its last words:\n{tail}")
            if time.monotonic() > until:
                raise EngineError(f"it did not start within {member.cfg.start_timeout_s:g} s (start_timeout_s)")
            if self.pool.closing.wait(0.2):
                return
        member.version = None
        self.pool.move(member, State.JOINING)

    def _join(self) -> None:
        """Give it the current weights, before it serves anything."""
        if not self.pool.catch_up(self.member):
            self.pool.closing.wait(0.1)

    def _watch(self) -> None:
        """One probe: a generation of one token, whose log-probabilities must be those of the current weights."""
        member = self.member
        member.look.wait(member.cfg.probe_every_s)
        member.look.clear()
        if self.pool.closing.is_set():
            return
        status = member.process.exited() if member.process else None
        if status is not None:
            raise EngineError(f"its process ended with status {status}")
        with member.weights:
            if member.state is State.READY:
                self.pool.probe(member)
        self.pool.trust(member)

    def _revive(self) -> None:
        member = self.member
        if member.restarts >= member.cfg.max_restarts:
            log.error("%s: given up after %d restarts: %s", member.name, member.restarts, member.problem)
            self.pool.move(member, State.GONE)
            return
        member.restarts += 1
        if member.process is not None:
            member.process.kill()
            log.warning("%s: starting it again (%d of %d)", member.name, member.restarts, member.cfg.max_restarts)
        elif self.pool.closing.wait(min(30.0, 0.5 * 2**member.restarts)):
            return
        self.pool.check.forget(member.name)
        member.launch()
        self.pool.move(member, State.STARTING)

"""Publishes the learner's weights, delivers them to every server, and verifies what each of them serves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import repeat

from r1rl.config.rollout import VLLMConfig
from r1rl.distributed.deadline import deadline
from r1rl.errors import EngineError
from r1rl.rollout.vllm.carriers import Carrier
from r1rl.rollout.vllm.fleet import UP, Fleet, Server, State
from r1rl.rollout.vllm.sync_check import Expected, SyncCheck

log = logging.getLogger(__name__)
SENDINGS = 3
"""Times that a version is broadcast before the run ends, if all of the servers fail each time."""
STEPS = 4
"""Of a delivery: pause, open a group, send, verify. Each has a deadline of its own, ``sync_timeout_s``."""


class WeightSync:
    """The weight version that the servers of a fleet serve.

    Args:
        leads: whether this rank sends weights; the other ranks only take part in gathering them.
        share: the first rank's value, on all ranks, for which it waits.
    """

    def __init__(
        self,
        fleet: Fleet,
        carrier: Carrier,
        check: SyncCheck,
        cfg: VLLMConfig,
        leads: bool,
        share: Callable[[bool], bool],
    ) -> None:
        self.fleet, self.carrier, self.check, self.cfg = fleet, carrier, check, cfg
        self.leads, self.share = leads, share
        self.expected: Expected | None = None
        """The learner's log-probabilities at the current version; None before the first :meth:`publish`."""
        self.gap = 0.0
        """Mean |Δ log p| of the last verification, nats."""

    @property
    def version(self) -> int:
        return self.expected.version if self.expected is not None else 0

    def publish(self, version: int) -> None:
        """Send the learner's weights to every server and verify each (collective over all ranks). Running completions
        are held meanwhile and continue with the new weights. A server that fails is left to its keeper.

        Raises:
            EngineError: no server is left, or a step took longer than ``sync_timeout_s``.
        """
        with self._phase(f"gathering the weights of version {version}"):
            self.carrier.publish(version)
        with self._phase(f"the learner's log-probabilities of version {version}"):
            expected = self.expected = self.check.expect(version)
        for _ in range(SENDINGS):
            if self._send(expected):
                break
        if not self.leads:
            self.fleet.recheck()
        self.fleet.wait_for(partial(self.fleet.serving, version), version, self.cfg.start_timeout_s)

    def catch_up(self, server: Server) -> bool:
        """Send a running server the current weights; False if it has to wait for the next :meth:`publish`.

        Raises:
            EngineError: the server does not accept them, or serves others.
        """
        with server.weights:
            expected = self.expected
            if expected is None:
                return False
            if not self.leads:
                if server.client.version() != str(expected.version):
                    return False
                server.version = expected.version
            elif self.carrier.replays:
                self._load_newest(server)
            else:
                return False
            self._serve(server)
        return True

    def probe(self, server: Server) -> None:
        """Request one token, and the probes' log-probabilities, under the lock of the server's weights.

        Raises:
            EngineError: it does not answer, or serves other weights.
        """
        expected = self.expected
        if expected is None or expected.version != server.version:
            return
        logps = server.client.score(self.check.prompts, server.cfg.probe_timeout_s)
        if self.leads:
            self.check.compare(server.name, expected, server.client.version(), logps)

    def forget(self, server: Server) -> None:
        """The server is restarted: its next answers come from a new process."""
        self.check.forget(server.name)

    def close(self) -> None:
        self.carrier.close()

    def _send(self, expected: Expected) -> bool:
        """Deliver to the servers that are up. On every rank, whether that is all that can be done: a broadcast that
        failed for all of its servers has to be repeated by all ranks, once the servers are back."""
        start_s, sync_s = self.cfg.start_timeout_s, self.cfg.sync_timeout_s
        targets: list[Server] = []
        if self.leads and self.carrier.replays:
            self.fleet.wait_for(self.fleet.up, expected.version, start_s)
            targets = self.fleet.up()
        elif self.leads:
            targets = self.fleet.members(start_s)
        with self._phase("waiting for the servers to start", start_s + sync_s):
            self.share(True)
        with self._phase(f"sending weight version {expected.version}", STEPS * sync_s):
            self._deliver(targets, expected)
        with self._phase(f"waiting for all ranks at version {expected.version}", STEPS * sync_s):
            return self.share(self.carrier.replays or bool(self.fleet.serving(expected.version)))

    def _deliver(self, targets: Sequence[Server], expected: Expected) -> None:
        if not self.leads:
            self.carrier.deliver([], expected.version)
        elif self.carrier.replays:
            with ThreadPoolExecutor(max(1, len(targets))) as threads:
                list(threads.map(self._update, targets, repeat(expected)))
        else:
            self._broadcast(targets, expected)

    def _update(self, server: Server, expected: Expected) -> None:
        with server.weights, self._alone(server):
            if server.version != expected.version and server.state in UP:
                self._load(server, expected)
                self._serve(server)

    def _load_newest(self, server: Server) -> None:
        """Load until the server has the newest version, which may change meanwhile."""
        while (expected := self.expected) is not None and server.version != expected.version:
            self._load(server, expected)

    def _load(self, server: Server, expected: Expected) -> None:
        """Pause running requests, change the weights, resume, and verify that the weights arrived."""
        server.client.pause(self.cfg.in_flight == "recompute")
        if server.version is None:
            server.client.init_weight_transfer_engine({})
        self.carrier.replay(server.client, expected.version)
        server.client.resume()
        self._verify(server, expected)

    def _broadcast(self, targets: Sequence[Server], expected: Expected) -> None:
        """One collective for all servers. One that cannot be paused is left out of it; if the collective itself fails,
        so has every member."""
        with ExitStack() as held, ThreadPoolExecutor(max(1, len(targets))) as threads:
            for server in targets:
                held.enter_context(server.weights)
            list(threads.map(self._pause, targets))
            members = [server for server in targets if server.state in UP]
            try:
                self.carrier.deliver([server.client for server in members], expected.version)
            except Exception as error:  # NCCL's, vLLM's, a socket's
                for server in members:
                    self.fleet.lose(server, f"sending its weights failed: {type(error).__name__} {error}")
                return
            list(threads.map(self._resume, members, repeat(expected)))

    def _pause(self, server: Server) -> None:
        with self._alone(server):
            server.client.pause(self.cfg.in_flight == "recompute")

    def _resume(self, server: Server, expected: Expected) -> None:
        with self._alone(server):
            server.client.resume()
            self._verify(server, expected)
            self._serve(server)

    def _verify(self, server: Server, expected: Expected) -> None:
        logps = server.client.score(self.check.prompts, self.cfg.sync_timeout_s)
        self.gap = self.check.compare(server.name, expected, server.client.version(), logps)
        server.version = expected.version

    def _serve(self, server: Server) -> None:
        if server.state is not State.READY:
            log.info("%s serves weight version %s", server.name, server.version)
        self.fleet.move(server, State.READY)

    @contextmanager
    def _alone(self, server: Server) -> Iterator[None]:
        """A failure in the block affects only this server."""
        try:
            yield
        except EngineError as error:
            self.fleet.lose(server, str(error))

    @contextmanager
    def _phase(self, name: str, seconds: float | None = None) -> Iterator[None]:
        with deadline(seconds or self.cfg.sync_timeout_s, f"vLLM: {name}", self.fleet.rank):
            yield

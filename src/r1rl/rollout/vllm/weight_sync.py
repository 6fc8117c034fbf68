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


class WeightSync:
    """The weight version that the servers of a fleet serve.

    Args:
        leads: whether this rank sends weights; the other ranks only take part in gathering them.
        barrier: waits for all ranks.
    """

    def __init__(
        self,
        fleet: Fleet,
        carrier: Carrier,
        check: SyncCheck,
        cfg: VLLMConfig,
        leads: bool,
        barrier: Callable[[], None],
    ) -> None:
        self.fleet, self.carrier, self.check, self.cfg = fleet, carrier, check, cfg
        self.leads, self.barrier = leads, barrier
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
        if self.leads:
            self.fleet.wait_for(self.fleet.up, version, self.cfg.start_timeout_s)
            self._deliver(expected)
        else:
            self.carrier.deliver([], version)
        with self._phase(f"waiting for all ranks at version {version}"):
            self.barrier()
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
            elif self._replays():
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

    def _replays(self) -> bool:
        return self.carrier.backend not in ("nccl", "ipc")

    def _deliver(self, expected: Expected) -> None:
        """To all running servers at the same time; a failure affects only its server."""
        targets = self.fleet.up()
        if not self._replays():
            self._broadcast(targets, expected)
            return
        with ThreadPoolExecutor(max(1, len(targets))) as threads:
            list(threads.map(self._update, targets, repeat(expected)))

    def _update(self, server: Server, expected: Expected) -> None:
        with server.weights:
            if server.version == expected.version or server.state not in UP:
                return
            try:
                self._load(server, expected)
            except EngineError as error:
                self.fleet.lose(server, str(error))
            else:
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
        """One collective for all servers."""
        with ExitStack() as held:
            for server in targets:
                held.enter_context(server.weights)
            try:
                for server in targets:
                    server.client.pause(self.cfg.in_flight == "recompute")
                self.carrier.deliver([server.client for server in targets], expected.version)
                for server in targets:
                    server.client.resume()
                    self._verify(server, expected)
                    self._serve(server)
            except (EngineError, RuntimeError) as error:  # NCCL's errors are RuntimeErrors, and break the whole group
                for server in targets:
                    if server.version != expected.version:
                        self.fleet.lose(server, str(error))

    def _verify(self, server: Server, expected: Expected) -> None:
        logps = server.client.score(self.check.prompts, self.cfg.sync_timeout_s)
        self.gap = self.check.compare(server.name, expected, server.client.version(), logps)
        server.version = expected.version

    def _serve(self, server: Server) -> None:
        if server.state is not State.READY:
            log.info("%s serves weight version %s", server.name, server.version)
        self.fleet.move(server, State.READY)

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        with deadline(self.cfg.sync_timeout_s, f"vLLM: {name}", self.fleet.rank):
            yield

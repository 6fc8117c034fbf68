"""The thread that keeps one server of a pool running."""

from __future__ import annotations

import logging
import threading
import time

from r1rl.errors import EngineError
from r1rl.rollout.vllm.fleet import Fleet, Server, State
from r1rl.rollout.vllm.weight_sync import WeightSync

log = logging.getLogger(__name__)


class Keeper(threading.Thread):
    """Starts one server, probes it, and restarts it when it fails."""

    def __init__(self, server: Server, fleet: Fleet, weights: WeightSync) -> None:
        super().__init__(name=f"keeper-{server.name}", daemon=True)
        self.server, self.fleet, self.weights = server, fleet, weights

    def run(self) -> None:
        steps = {
            State.STARTING: self._start,
            State.JOINING: self._join,
            State.READY: self._watch,
            State.DOWN: self._revive,
        }
        while not self.fleet.closing.is_set() and self.server.state is not State.GONE:
            try:
                steps[self.server.state]()
            except (EngineError, OSError) as error:  # OSError: its process cannot be started
                self.fleet.lose(self.server, str(error))

    def _start(self) -> None:
        """Wait until it answers; its weights are sent afterwards."""
        server = self.server
        until = time.monotonic() + server.cfg.start_timeout_s
        while not server.client.healthy():
            status = server.process.exited() if server.process else None
            if server.process is not None and status is not None:
                tail = server.process.tail()
                raise EngineError(f"its process ended with status {status} while starting; its last output:\n{tail}")
            if time.monotonic() > until:
                raise EngineError(f"it did not start within {server.cfg.start_timeout_s:g} s (start_timeout_s)")
            if self.fleet.closing.wait(0.2):
                return
        server.version = None
        self.fleet.move(server, State.JOINING)

    def _join(self) -> None:
        """Send it the current weights, before it serves anything."""
        if not self.weights.catch_up(self.server):
            self.fleet.closing.wait(0.1)

    def _watch(self) -> None:
        """One probe: a generation of one token, whose log-probabilities must be those of the current weights."""
        server = self.server
        server.look.wait(server.cfg.probe_every_s)
        server.look.clear()
        if self.fleet.closing.is_set():
            return
        status = server.process.exited() if server.process else None
        if status is not None:
            raise EngineError(f"its process ended with status {status}")
        with server.weights:
            if server.state is State.READY:
                self.weights.probe(server)
                if server.process is None:
                    server.attempts = 0  # whoever runs it has brought it back
        self.fleet.trust(server)

    def _revive(self) -> None:
        server = self.server
        if server.attempts >= server.cfg.max_restarts:
            log.error("%s: abandoned after %d attempts: %s", server.name, server.attempts, server.problem)
            self.fleet.move(server, State.GONE)
            return
        server.attempts += 1
        if server.process is not None:
            server.restarts += 1
            server.process.kill()
            log.warning("%s: restarting it (%d of %d)", server.name, server.restarts, server.cfg.max_restarts)
        elif self.fleet.closing.wait(min(30.0, 0.5 * 2**server.attempts)):
            return
        self.weights.forget(server)
        server.launch()
        self.fleet.move(server, State.STARTING)

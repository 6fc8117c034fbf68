"""The served engine: any number of vLLM servers, some of which may die, hang, start late or serve the wrong weights."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Sequence

from r1rl.config.rollout import VLLMConfig
from r1rl.errors import EngineError
from r1rl.model.load import Policy
from r1rl.rollout.ending import Ending
from r1rl.rollout.engine import FinishedGroups, Request
from r1rl.rollout.vllm.carriers import Carrier
from r1rl.rollout.vllm.fleet import Fleet, Server, State
from r1rl.rollout.vllm.keeper import Keeper
from r1rl.rollout.vllm.slots import Slot
from r1rl.rollout.vllm.sync_check import SyncCheck
from r1rl.rollout.vllm.weight_sync import WeightSync
from r1rl.rollout.vllm.work_queue import Job, WorkQueue
from r1rl.types import SamplingParams

log = logging.getLogger(__name__)


class Pool:
    """Servers that share the work: each takes the next waiting group when it has a free slot.

    One keeper thread per server starts it, probes it and revives it; a server gets work only while it provably serves
    the current weights. Groups of a lost server are requested again from another; an answer that arrives twice counts
    once.

    Args:
        slots: groups that one server works on at once.
        leads: whether this rank sends weights and owns processes; the other ranks only send requests.
        share: the first rank's value, on all ranks, for which it waits.
        deadline_s: longest wait of one stream, the caller's own time between items left out.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        policy: Policy,
        cfg: VLLMConfig,
        carrier: Carrier,
        check: SyncCheck,
        *,
        slots: int,
        rank: int,
        leads: bool,
        share: Callable[[bool], bool],
        deadline_s: float,
    ) -> None:
        self.policy, self.cfg, self.deadline_s = policy, cfg, deadline_s
        self.work = WorkQueue(cfg.max_attempts)
        self.fleet = Fleet(servers, self.work, rank)
        self.weights = WeightSync(self.fleet, carrier, check, cfg, leads, share)
        ending = Ending.of(policy)
        for server in servers:
            server.launch()
        self._keepers = [Keeper(server, self.fleet, self.weights) for server in servers]
        for keeper in self._keepers:
            keeper.start()
        for server in servers:
            for i in range(slots):
                Slot(f"{server.name}-{i}", server, self.work, self.weights, ending, cfg.seeded).start()

    @property
    def version(self) -> int:
        return self.weights.version

    @property
    def servers(self) -> list[Server]:
        return self.fleet.servers

    def stream(self, requests: Sequence[Request], params: SamplingParams) -> FinishedGroups:
        """See :meth:`r1rl.rollout.engine.Engine.stream`. Several streams may be open at once, in any threads, and while
        :meth:`sync` runs.

        Raises:
            EngineError: no server is left, a group failed ``max_attempts`` times, or the deadline passed.
        """
        if self.weights.expected is None:
            self.sync(self.version)
        job = Job(requests, params, self.version)
        left = self.deadline_s
        try:
            self.work.submit(job)
            for missing in range(len(job.wanted), 0, -1):
                begin = time.monotonic()
                index = self._next(job, left, missing)
                left -= time.monotonic() - begin
                yield index, job.results[index]
        finally:
            self._withdraw(job)

    def sync(self, version: int) -> None:
        """See :meth:`WeightSync.publish`. Running completions continue with the new weights."""
        self.weights.publish(version)

    def metrics(self) -> dict[str, float]:
        """Servers at work, and counts of what went wrong so far."""
        return {
            "rollout/servers": float(sum(server.state is State.READY for server in self.servers)),
            "rollout/server_failures": float(self.fleet.failures),
            "rollout/server_restarts": float(sum(server.restarts for server in self.servers)),
            "rollout/resubmitted": float(self.work.resubmitted),
            "rollout/duplicates_dropped": float(self.work.duplicates),
            "rollout/sync_gap": self.weights.gap,
        }

    def close(self) -> None:
        """End the servers that r1rl started, and every thread."""
        self.fleet.close()
        for server in self.servers:
            server.end()
        for keeper in self._keepers:
            keeper.join(5)
        for server in self.servers:
            server.end()  # a keeper may have restarted it meanwhile
        self.weights.close()

    def _next(self, job: Job, seconds: float, missing: int) -> int:
        """Wait for the next answered request of a job."""
        until = time.monotonic() + seconds
        while True:
            try:
                item = job.finished.get(timeout=1.0)
            except queue.Empty:
                self.fleet.check_alive()
                if time.monotonic() > until:
                    raise EngineError(
                        f"rank {self.fleet.rank}: {missing} groups are still missing after {self.deadline_s:g} s "
                        f"(grpo.deadline_s); {self.fleet.status()}"
                    ) from None
                continue
            if isinstance(item, Exception):
                raise item
            return item

    def _withdraw(self, job: Job) -> None:
        """End a job, and have servers abort its running requests."""
        running = self.work.withdraw(job)
        for server in self.servers:
            try:
                server.client.abort(running.get(server.name, ()), self.cfg.probe_timeout_s)
            except EngineError as error:  # it wastes that server's time, nothing else
                log.info("%s: could not abort cancelled requests: %s", server.name, error)

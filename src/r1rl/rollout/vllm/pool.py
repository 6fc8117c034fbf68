"""The served engine: any number of vLLM servers, some of which may die, hang, start late or serve the wrong weights."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from r1rl.config.rollout import VLLMConfig
from r1rl.distributed.deadline import deadline
from r1rl.errors import EngineError
from r1rl.model.load import Policy
from r1rl.rollout.ending import Ending
from r1rl.rollout.engine import FinishedGroups, Request
from r1rl.rollout.vllm.carriers import Carrier
from r1rl.rollout.vllm.check import Expected, SyncCheck
from r1rl.rollout.vllm.client import Answer, RefusedError, ServerError
from r1rl.rollout.vllm.jobs import Job, Task, TaskQueue
from r1rl.rollout.vllm.member import Keeper, Member, State
from r1rl.rollout.vllm.wire import completion, sampling
from r1rl.types import Completion, SamplingParams

log = logging.getLogger(__name__)


class Pool:
    """Servers that share the work: each takes the next waiting group when it has room.

    A keeper thread a server starts it, probes it and revives it; a server gets work only while it provably serves
    the current weights. Groups of a lost server are asked for again elsewhere; an answer that comes twice counts once.

    Args:
        slots: groups one server works on at once.
        leads: whether this rank sends weights and owns processes; the other ranks only ask.
        barrier: waits for all ranks.
    """

    def __init__(
        self,
        members: Sequence[Member],
        policy: Policy,
        cfg: VLLMConfig,
        carrier: Carrier,
        check: SyncCheck,
        *,
        slots: int,
        rank: int = 0,
        leads: bool = True,
        barrier: Callable[[], None] = lambda: None,
        deadline_s: float = 1800.0,
    ) -> None:
        self.members, self.policy, self.cfg, self.carrier, self.check = list(members), policy, cfg, carrier, check
        self.rank, self.leads, self.barrier, self.deadline_s = rank, leads, barrier, deadline_s
        self.ending = Ending.of(policy)
        self.version = 0
        self.expected: Expected | None = None
        self.closing = threading.Event()
        self.counts = {"resubmitted": 0, "duplicates": 0, "server_failures": 0}
        self.gap = 0.0
        self._tasks = TaskQueue()
        self._changed = threading.Condition()
        for member in self.members:
            member.launch()
        self._threads = [Keeper(self, member) for member in self.members]
        for thread in self._threads:
            thread.start()
            for slot in range(slots):
                name = f"{member.name}-{slot}"
                threading.Thread(target=self._work, args=(member,), name=name, daemon=True).start()

    # ---- what the loop calls ----

    def stream(self, requests: Sequence[Request], params: SamplingParams) -> FinishedGroups:
        """See :meth:`r1rl.rollout.engine.Engine.stream`. Several streams may be open at once, in any threads, and while
        :meth:`sync` runs.

        Raises:
            EngineError: no server is left, a group failed ``max_attempts`` times, or the deadline passed.
        """
        if self.expected is None:
            self.sync(self.version)
        job = Job(requests, params, self.version)
        wanted = [i for i, request in enumerate(requests) if request.seeds]
        try:
            with self._changed:
                self._tasks.waiting.extend(Task(job, i) for i in wanted)
                self._changed.notify_all()
            for index in self._finished(job, len(wanted)):
                yield index, job.results[index] or []
        finally:
            job.over = True
            self.counts["duplicates"] += job.duplicates
            self._withdraw(job)

    def sync(self, version: int) -> None:
        """Send the learner's weights to every server and check each. Running completions are held meanwhile and go
        on with the new weights. A server that fails is left to its keeper; the run goes on with the others.

        Raises:
            EngineError: no server is left, or a step took longer than ``sync_timeout_s``.
        """
        with self._phase(f"gathering the weights of version {version}"):
            self.carrier.publish(version)
        with self._phase(f"the learner's log-probabilities of version {version}"):
            expected = self.check.expect(version)
        with self._changed:
            self.version, self.expected = version, expected
        if self.leads:
            self._await(lambda: any(m.state in (State.READY, State.JOINING) for m in self.members))
            self._deliver(version)
        else:
            self.carrier.deliver([], version)
        with self._phase(f"waiting for all ranks at version {version}"):
            self.barrier()
        if not self.leads:
            with self._changed:
                for member in self.members:
                    member.state = State.JOINING if member.state is State.READY else member.state
        self._await(lambda: any(m.state is State.READY and m.version == version for m in self.members))

    def metrics(self) -> dict[str, float]:
        """Servers at work, and what went wrong so far."""
        return {
            "rollout/servers": float(sum(m.state is State.READY for m in self.members)),
            "rollout/server_failures": float(self.counts["server_failures"]),
            "rollout/server_restarts": float(sum(m.restarts for m in self.members)),
            "rollout/resubmitted": float(self.counts["resubmitted"]),
            "rollout/duplicates_dropped": float(self.counts["duplicates"]),
            "rollout/sync_gap": self.gap,
        }

    def close(self) -> None:
        """End the servers that are ours, and every thread."""
        self.closing.set()
        with self._changed:
            self._changed.notify_all()
        for member in self.members:
            member.look.set()
            member.end()
        for thread in self._threads:
            thread.join(5)
        for member in self.members:
            member.end()
        self.carrier.close()

    # ---- what keepers call ----

    def move(self, member: Member, state: State) -> None:
        with self._changed:
            member.state = state
            self._changed.notify_all()

    def trust(self, member: Member) -> None:
        with self._changed:
            member.doubted = False
            self._changed.notify_all()

    def down(self, member: Member, problem: str) -> None:
        """A server is lost: take its work back."""
        if self.closing.is_set():
            return
        with self._changed:
            member.state, member.version, member.problem, member.doubted = State.DOWN, None, problem, False
            again = self._tasks.evict(member.name)
            self.counts["server_failures"] += 1
            self.counts["resubmitted"] += len(again)
            self._changed.notify_all()
        log.warning("%s is down: %s; %d groups are asked for again", member.name, problem, len(again))

    def catch_up(self, member: Member) -> bool:
        """Bring a server that is up to the current weights; False if it has to wait for the next sync."""
        if self.expected is None:
            return False
        with member.weights:
            if not self.leads:
                if member.client.version() == str(self.version):
                    member.version = self.version
                    self._ready(member)
                return member.version == self.version
            if not self._replays():
                return False
            while member.version != self.version:
                self._load(member, self.version, self.expected)
            self._ready(member)
        return True

    def probe(self, member: Member) -> None:
        """Ask for one token, and for the probes' log-probabilities, under its weights' lock."""
        expected = self.expected
        if expected is None or expected.version != member.version:
            return
        logps = member.client.score(self.check.prompts, member.cfg.probe_timeout_s)
        if self.leads:
            self.check.compare(member.name, expected, member.client.version(), logps)

    # ---- weights ----

    def _replays(self) -> bool:
        return self.carrier.backend not in ("nccl", "ipc")

    def _deliver(self, version: int) -> None:
        """To all that are up, at the same time; each failure is that server's own."""
        with self._changed:
            targets = [m for m in self.members if m.state in (State.READY, State.JOINING)]
        if not self._replays():
            self._broadcast(targets, version)
            return
        with ThreadPoolExecutor(max(1, len(targets))) as threads:
            list(threads.map(lambda member: self._update(member, version), targets))

    def _update(self, member: Member, version: int) -> None:
        with member.weights:
            if member.version == version or member.state not in (State.READY, State.JOINING):
                return
            assert self.expected is not None
            try:
                self._load(member, version, self.expected)
            except EngineError as error:
                self.down(member, str(error))
            else:
                self._ready(member)

    def _load(self, member: Member, version: int, expected: Expected) -> None:
        """Hold what runs, change the weights, let it run on, and look whether they arrived."""
        member.client.pause(self.cfg.in_flight == "recompute")
        if member.version is None:
            member.client.init_weight_transfer_engine({})
        self.carrier.replay(member.client, version)
        member.client.resume()
        self._verify(member, expected)
        member.version = version

    def _broadcast(self, targets: Sequence[Member], version: int) -> None:
        """One collective for all servers."""
        for member in targets:
            member.weights.acquire()
        assert self.expected is not None
        try:
            for member in targets:
                member.client.pause(self.cfg.in_flight == "recompute")
            self.carrier.deliver([m.client for m in targets], version)
            for member in targets:
                member.client.resume()
                self._verify(member, self.expected)
                member.version = version
                self._ready(member)
        except (EngineError, RuntimeError) as error:  # NCCL's errors are RuntimeErrors, and break the whole group
            for member in targets:
                if member.version != version:
                    self.down(member, str(error))
        finally:
            for member in targets:
                member.weights.release()

    def _verify(self, member: Member, expected: Expected) -> None:
        logps = member.client.score(self.check.prompts, self.cfg.sync_timeout_s)
        self.gap = self.check.compare(member.name, expected, member.client.version(), logps)

    def _ready(self, member: Member) -> None:
        if member.state is not State.READY:
            log.info("%s serves weight version %s", member.name, member.version)
        self.move(member, State.READY)

    # ---- work ----

    def _work(self, member: Member) -> None:
        """One slot of one server."""
        while (task := self._next(member)) is not None:
            try:
                answers = member.client.generate(
                    task.request.problem.prompt_ids,
                    sampling(task.request, task.job.params, self.ending.ids, self.cfg.seeded),
                    str(member.version),
                    task.name,
                )
                completions = self._read(task, answers)
            except RefusedError as error:
                self._leave(member, task)
                task.job.fail(error)
            except EngineError as error:
                self._again(member, task, error)
            else:
                self._leave(member, task)
                task.job.deliver(task.index, completions)

    def _next(self, member: Member) -> Task | None:
        with self._changed:
            while not self.closing.is_set() and member.state is not State.GONE:
                if member.state is State.READY and not member.doubted:
                    task = self._tasks.take(member.name)
                    if task is not None:
                        return task
                self._changed.wait(1.0)
        return None

    def _read(self, task: Task, answers: Sequence[Answer]) -> list[Completion]:
        """Answers as completions.

        Raises:
            ServerError: too few, aborted, or sampled by weights that should not have been there.
        """
        if len(answers) != len(task.request.seeds):
            raise ServerError(f"{len(answers)} completions instead of {len(task.request.seeds)}")
        read = []
        for ids, logps, finish, spans in answers:
            if finish not in ("stop", "length"):
                raise ServerError(f"a completion ended with {finish!r}")
            for label, _, _ in spans:
                if not label.isdigit() or not task.job.since <= int(label) <= self.version:
                    raise ServerError(f"a completion was sampled by weight version {label}, not {self.version}")
            read.append(completion(self.ending, ids, logps, finish, spans, self.version))
        return read

    def _withdraw(self, job: Job) -> None:
        """Have servers stop what is still running of a job that ended early."""
        with self._changed:
            running = self._tasks.withdraw(job)
        for member in self.members:
            try:
                member.client.abort(running.get(member.name, ()), self.cfg.probe_timeout_s)
            except EngineError as error:  # it costs that server's time, and no more
                log.info("%s: requests that nobody needs go on: %s", member.name, error)

    def _leave(self, member: Member, task: Task) -> None:
        with self._changed:
            self._tasks.leave(member.name, task)

    def _again(self, member: Member, task: Task, error: Exception) -> None:
        """A request failed: have the server probed before it gets another, and ask elsewhere."""
        if self.closing.is_set() or task.job.over:
            self._leave(member, task)
            return
        with self._changed:
            if not self._tasks.leave(member.name, task):
                return  # its server was declared lost meanwhile, and the request went elsewhere then
            if member.state is State.READY:
                member.doubted = True
            back = self._tasks.again([task]) if task.attempts < self.cfg.max_attempts else []
            self.counts["resubmitted"] += len(back)
            self._changed.notify_all()
        member.look.set()
        if not back and not task.job.done(task.index):
            task.job.fail(EngineError(f"a group failed {task.attempts} times, at last on {member.name}: {error}"))
        else:
            log.warning("%s: a group is asked for again: %s", member.name, error)

    def _finished(self, job: Job, count: int) -> Iterator[int]:
        """Indices of answered requests, as they come."""
        waited = 0.0  # without the caller's own time between items
        while count:
            begin = time.monotonic()
            try:
                item = job.finished.get(timeout=1.0)
            except queue.Empty:
                self._check_alive()
                waited += time.monotonic() - begin
                if waited > self.deadline_s:
                    raise EngineError(
                        f"rank {self.rank}: {count} groups are still missing after {self.deadline_s:g} s "
                        f"(grpo.deadline_s); {self._status()}"
                    ) from None
                continue
            if isinstance(item, Exception):
                raise item
            count -= 1
            yield item

    def _await(self, ready: Callable[[], bool]) -> None:
        until = time.monotonic() + self.cfg.start_timeout_s
        with self._changed:
            while not ready():
                self._check_alive()
                if time.monotonic() > until:
                    raise EngineError(
                        f"rank {self.rank}: no vLLM server serves weight version {self.version} after "
                        f"{self.cfg.start_timeout_s:g} s (rollout.vllm.start_timeout_s); {self._status()}"
                    )
                self._changed.wait(0.5)

    def _check_alive(self) -> None:
        if all(member.state is State.GONE for member in self.members):
            raise EngineError(f"rank {self.rank}: no vLLM server is left; {self._status()}")

    def _status(self) -> str:
        return "; ".join(f"{m.name} is {m.state.value}{': ' + m.problem if m.problem else ''}" for m in self.members)

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        with deadline(self.cfg.sync_timeout_s, f"vLLM: {name}", self.rank):
            yield

"""Which server works on which request: each request is answered once, however often it is sent."""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from r1rl.errors import EngineError
from r1rl.rollout.engine import Request
from r1rl.types import Completion, SamplingParams

log = logging.getLogger(__name__)


class Job:
    """The requests of one stream.

    Args:
        since: weight version when they were submitted; no older one may serve them.
    """

    def __init__(self, requests: Sequence[Request], params: SamplingParams, since: int) -> None:
        self.requests, self.params, self.since = requests, params, since
        self.wanted = [index for index, request in enumerate(requests) if request.seeds]
        self.finished: queue.SimpleQueue[int | Exception] = queue.SimpleQueue()
        """Indices of answered requests, and what ends the job."""
        self.results: dict[int, list[Completion]] = {}
        self.duplicates = 0
        self.over = False
        self._lock = threading.Lock()

    def deliver(self, index: int, completions: list[Completion]) -> bool:
        """Accept an answer; if the request already has one, count it as a duplicate and return False."""
        with self._lock:
            if self.done(index):
                self.duplicates += 1
                return False
            self.results[index] = completions
        self.finished.put(index)
        return True

    def fail(self, error: Exception) -> None:
        self.finished.put(error)

    def done(self, index: int) -> bool:
        """Whether this answer is no longer needed."""
        return self.over or index in self.results


def _unique() -> str:
    return uuid4().hex


@dataclass(slots=True)
class Task:
    """One request of a job."""

    job: Job
    index: int
    attempts: int = 0
    name: str = field(default_factory=_unique)
    """Identifies it on servers."""

    @property
    def request(self) -> Request:
        return self.job.requests[self.index]


class WorkQueue:
    """Requests of all open streams, and the servers that may work on them, by name. Safe to use from many threads.

    Args:
        max_attempts: times that a request is sent before its job fails.
    """

    def __init__(self, max_attempts: int) -> None:
        self.max_attempts = max_attempts
        self.resubmitted = 0
        self.duplicates = 0
        self._waiting: deque[Task] = deque()
        self._running: dict[str, list[Task]] = {}
        """By server."""
        self._admitted: set[str] = set()
        self._retired: set[str] = set()
        self._closed = False
        self._changed = threading.Condition()

    def submit(self, job: Job) -> None:
        with self._changed:
            self._waiting.extend(Task(job, index) for index in job.wanted)
            self._changed.notify_all()

    def withdraw(self, job: Job) -> dict[str, list[str]]:
        """End a job. Returns the names of its requests that still run, by server."""
        with self._changed:
            job.over = True
            self.duplicates += job.duplicates
            self._waiting = deque(task for task in self._waiting if task.job is not job)
            return {
                server: names
                for server, tasks in self._running.items()
                if (names := [task.name for task in tasks if task.job is job and task.index not in job.results])
            }

    def admit(self, server: str) -> None:
        """The server may take work."""
        with self._changed:
            self._admitted.add(server)
            self._changed.notify_all()

    def hold(self, server: str) -> None:
        """The server gets no further work until it is admitted again."""
        with self._changed:
            self._admitted.discard(server)

    def evict(self, server: str) -> int:
        """The server is lost: its work goes to others. Returns the number of requests that are sent again."""
        with self._changed:
            self._admitted.discard(server)
            back = self._resubmit(self._running.pop(server, []))
            self._changed.notify_all()
            return back

    def retire(self, server: str) -> None:
        """The server never comes back: :meth:`take` returns None to its waiting threads."""
        with self._changed:
            self._admitted.discard(server)
            self._retired.add(server)
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self, server: str) -> Task | None:
        """Wait for a request that this server may work on; None once the queue is closed or the server is gone."""
        with self._changed:
            while not self._closed and server not in self._retired:
                task = self._first() if server in self._admitted else None
                if task is not None:
                    task.attempts += 1
                    self._running.setdefault(server, []).append(task)
                    return task
                self._changed.wait()
        return None

    def deliver(self, server: str, task: Task, completions: list[Completion]) -> None:
        """The request was answered by this server."""
        self._leave(server, task)
        task.job.deliver(task.index, completions)

    def refuse(self, server: str, task: Task, error: Exception) -> None:
        """The request itself is invalid: a retry would not help."""
        self._leave(server, task)
        task.job.fail(error)

    def retry(self, server: str, task: Task, error: Exception) -> bool:
        """The request failed on this server, which is held; another server gets it.

        Returns:
            False where the failure changes nothing: the answer is no longer needed, or the server was already lost.
        """
        with self._changed:
            if not self._leave(server, task) or self._closed or task.job.over:
                return False
            self._admitted.discard(server)
            back = self._resubmit([task]) if task.attempts < self.max_attempts else 0
            self._changed.notify_all()
        if back or task.job.done(task.index):
            log.warning("%s: a group is requested again: %s", server, error)
        else:
            task.job.fail(EngineError(f"a group failed {task.attempts} times, most recently on {server}: {error}"))
        return True

    def _first(self) -> Task | None:
        while self._waiting:
            task = self._waiting.popleft()
            if not task.job.done(task.index):
                return task
        return None

    def _leave(self, server: str, task: Task) -> bool:
        """The server no longer works on it. False if it was taken from the server before."""
        with self._changed:
            tasks = self._running.get(server, [])
            for i, other in enumerate(tasks):
                if other is task:
                    del tasks[i]
                    return True
        return False

    def _resubmit(self, tasks: Sequence[Task]) -> int:
        """Put unanswered tasks back in front."""
        back = [task for task in tasks if not task.job.done(task.index)]
        self._waiting.extendleft(reversed(back))
        self.resubmitted += len(back)
        return len(back)

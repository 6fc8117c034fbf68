"""Requests on their way through a pool: each is answered once, however often it is asked."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from r1rl.rollout.engine import Request
from r1rl.types import Completion, SamplingParams


class Job:
    """One ``generate`` call."""

    def __init__(self, requests: Sequence[Request], params: SamplingParams, since: int) -> None:
        self.requests, self.params = requests, params
        self.since = since
        """Weight version when it was asked for; nothing older may be served."""
        self.finished: queue.SimpleQueue[int | Exception] = queue.SimpleQueue()
        self.results: list[list[Completion] | None] = [None] * len(requests)
        self.duplicates = 0
        self.over = False
        self._lock = threading.Lock()

    def deliver(self, index: int, completions: list[Completion]) -> bool:
        """Take an answer; False, and counted, if the request already has one."""
        with self._lock:
            if self.over or self.results[index] is not None:
                self.duplicates += 1
                return False
            self.results[index] = completions
        self.finished.put(index)
        return True

    def fail(self, error: Exception) -> None:
        self.finished.put(error)

    def done(self, index: int) -> bool:
        return self.over or self.answered(index)

    def answered(self, index: int) -> bool:
        return self.results[index] is not None


@dataclass(slots=True)
class Task:
    """One request of a job."""

    job: Job
    index: int
    attempts: int = 0
    name: str = field(default_factory=lambda: uuid4().hex)
    """What servers know it by."""

    @property
    def request(self) -> Request:
        return self.job.requests[self.index]


@dataclass(slots=True)
class TaskQueue:
    """What waits for a server; guarded by the pool's lock."""

    waiting: deque[Task] = field(default_factory=deque)
    running: dict[str, list[Task]] = field(default_factory=dict)
    """By member."""

    def take(self, member: str) -> Task | None:
        while self.waiting:
            task = self.waiting.popleft()
            if not task.job.done(task.index):
                task.attempts += 1
                self.running.setdefault(member, []).append(task)
                return task
        return None

    def leave(self, member: str, task: Task) -> bool:
        """The member is through with it, for better or worse. False if it had been taken from the member before."""
        tasks = self.running.get(member, [])
        for i, other in enumerate(tasks):
            if other is task:
                del tasks[i]
                return True
        return False

    def withdraw(self, job: Job) -> dict[str, list[str]]:
        """Nobody wants a job's answers any more: names of its requests that are running, by member."""
        self.waiting = deque(task for task in self.waiting if task.job is not job)
        return {
            member: names
            for member, tasks in self.running.items()
            if (names := [task.name for task in tasks if task.job is job and not job.answered(task.index)])
        }

    def again(self, tasks: Sequence[Task]) -> list[Task]:
        """Put unanswered tasks back in front; returns those that were put back."""
        back = [task for task in tasks if not task.job.done(task.index)]
        self.waiting.extendleft(reversed(back))
        return back

    def evict(self, member: str) -> list[Task]:
        """Take everything back from a member that is lost."""
        return self.again(self.running.pop(member, []))

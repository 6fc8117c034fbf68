"""Requests completions from servers: each slot is a thread with one request at a time on one server."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from r1rl.errors import EngineError
from r1rl.rollout.ending import Ending
from r1rl.rollout.vllm.client import Answer, RefusedError, ServerError
from r1rl.rollout.vllm.fleet import Server
from r1rl.rollout.vllm.weight_sync import WeightSync
from r1rl.rollout.vllm.wire import completion, sampling
from r1rl.rollout.vllm.work_queue import Task, WorkQueue
from r1rl.types import Completion


class Slot(threading.Thread):
    """Takes requests for its server until the queue is closed for it.

    Args:
        seeded: whether requests carry their seed.
    """

    def __init__(
        self, name: str, server: Server, work: WorkQueue, weights: WeightSync, ending: Ending, seeded: bool
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.server, self.work, self.weights, self.ending, self.seeded = server, work, weights, ending, seeded

    def run(self) -> None:
        name = self.server.name
        while (task := self.work.take(name)) is not None:
            try:
                completions = self._read(task, self._ask(task))
            except RefusedError as error:
                self.work.refuse(name, task, error)
            except EngineError as error:
                if self.work.retry(name, task, error):
                    self.server.look.set()
            else:
                self.work.deliver(name, task, completions)

    def _ask(self, task: Task) -> list[Answer]:
        return self.server.client.generate(
            task.request.problem.prompt_ids,
            sampling(task.request, task.job.params, self.ending.ids, self.seeded),
            str(self.server.version),
            task.name,
        )

    def _read(self, task: Task, answers: Sequence[Answer]) -> list[Completion]:
        """Answers as completions.

        Raises:
            ServerError: too few, aborted, or sampled by the wrong weights.
        """
        if len(answers) != len(task.request.seeds):
            raise ServerError(f"{len(answers)} completions instead of {len(task.request.seeds)}")
        version, read = self.weights.version, []
        for ids, logps, finish, spans in answers:
            if finish not in ("stop", "length"):
                raise ServerError(f"a completion ended with {finish!r}")
            for label, _, _ in spans:
                if not label.isdigit() or not task.job.since <= int(label) <= version:
                    raise ServerError(f"a completion was sampled by weight version {label}, not {version}")
            read.append(completion(self.ending, ids, logps, finish, spans, version))
        return read

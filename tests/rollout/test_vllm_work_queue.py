"""Who works on what among the servers of a pool; no server is needed."""

from __future__ import annotations

import threading

import pytest

from r1rl.errors import EngineError
from r1rl.rollout.engine import Request
from r1rl.rollout.vllm.work_queue import Job, Task, WorkQueue
from r1rl.types import Problem, SamplingParams
from tests.support.waits import HANG_S

FAILED = EngineError("refused")


def job_of(count: int, seeds: tuple[int, ...] = (7, 8)) -> Job:
    return Job([Request(Problem("p", (1, 2), ""), seeds)] * count, SamplingParams(4), since=0)


def work_of(job: Job, *servers: str, attempts: int = 3) -> WorkQueue:
    work = WorkQueue(attempts)
    work.submit(job)
    for server in servers:
        work.admit(server)
    return work


def take(work: WorkQueue, server: str) -> Task:
    """What the server gets at once."""
    got: list[Task | None] = []
    thread = threading.Thread(target=lambda: got.append(work.take(server)), daemon=True)
    thread.start()
    thread.join(HANG_S)
    assert got, f"{server} got no work"
    assert got[0] is not None
    return got[0]


def test_an_answer_counts_once_however_often_it_comes() -> None:
    job = job_of(2)
    work = work_of(job, "a", "b")
    lost, other = take(work, "a"), take(work, "a")
    assert work.evict("a") == 2
    again = take(work, "b")
    assert again is lost, "in the order in which they were asked"
    assert again.attempts == 2
    assert not work.retry("a", lost, FAILED), "the server that lost it has no say any more"
    work.deliver("b", again, [])
    work.deliver("a", lost, [])
    assert job.finished.get(timeout=HANG_S) == 0
    assert job.finished.empty()
    assert take(work, "b") is other
    work.deliver("a", other, [])
    assert work.evict("b") == 0, "an answered request is not asked again"
    work.withdraw(job)
    assert (work.resubmitted, work.duplicates) == (2, 1)


def test_a_server_gets_no_work_before_it_is_admitted_nor_while_it_is_held() -> None:
    job = job_of(3)
    work = work_of(job, "a")
    first = take(work, "a")
    assert work.retry("a", first, FAILED)
    got: list[Task | None] = []
    thread = threading.Thread(target=lambda: got.append(work.take("a")), daemon=True)
    thread.start()
    thread.join(0.05)
    assert not got, "a request failed there"
    work.admit("b")
    assert take(work, "b") is first
    work.admit("a")
    thread.join(HANG_S)
    assert [task.index for task in got if task is not None] == [1]


def test_a_request_that_fails_everywhere_ends_its_job() -> None:
    job = job_of(1)
    work = work_of(job, "a", attempts=2)
    assert work.retry("a", take(work, "a"), FAILED)
    assert job.finished.empty()
    work.admit("a")
    assert work.retry("a", take(work, "a"), FAILED)
    error = job.finished.get(timeout=HANG_S)
    assert str(error) == "a group failed 2 times, most recently on a: refused"


def test_a_refused_request_ends_its_job_at_once() -> None:
    job = job_of(1)
    work = work_of(job, "a")
    work.refuse("a", take(work, "a"), FAILED)
    assert job.finished.get(timeout=HANG_S) is FAILED
    assert work.evict("a") == 0


def test_a_withdrawn_job_names_what_still_runs_and_leaves_the_others() -> None:
    job, other = job_of(3), job_of(1)
    work = work_of(job, "a", "b")
    work.submit(other)
    answered, running, failing = take(work, "a"), take(work, "a"), take(work, "b")
    work.deliver("a", answered, [])
    assert work.withdraw(job) == {"a": [running.name], "b": [failing.name]}
    assert not work.retry("b", failing, FAILED), "nobody waits for it"
    assert take(work, "b").job is other, "and the server is not held for it"


def test_requests_without_seeds_are_never_asked() -> None:
    assert job_of(2, seeds=()).wanted == []


@pytest.mark.parametrize("end", ["close", "retire"])
def test_whoever_waits_for_work_is_released_in_the_end(end: str) -> None:
    work = WorkQueue(3)
    got: list[Task | None] = []
    thread = threading.Thread(target=lambda: got.append(work.take("a")), daemon=True)
    thread.start()
    if end == "close":
        work.close()
    else:
        work.retire("a")
    thread.join(HANG_S)
    assert got == [None]

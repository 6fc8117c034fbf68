"""Workers that hang, grow, die or are killed; hosts that are killed; trainers that are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from r1rl.errors import R1Error
from r1rl.verify import Checker, Limits, Outcome
from r1rl.verify.sandbox import CallFailed, CallLost, Sandbox
from tests.support.waits import HANG_S

FUNCTIONS = """
import os, time

def echo(value):
    return value

def spin():
    while True:
        pass

def sleep(seconds):
    time.sleep(seconds)
    return "slept"

def grow(megabytes):
    return len(bytearray(megabytes << 20))

def touch_pages(megabytes):
    block = bytearray(megabytes << 20)
    for start in range(0, len(block), 4096):
        block[start] = 1
    time.sleep(0.2)
    return len(block)

def fail():
    raise KeyError("no such thing")

def deep():
    return deep()

def leave():
    os._exit(3)

def reach(what):
    if what == "shell":
        os.system("true")
    elif what == "write":
        open("/tmp/r1rl-sandbox", "w")
    elif what == "socket":
        import socket
        socket.create_connection(("127.0.0.1", 9))
    elif what == "eval":
        eval("1 + 1")
    elif what == "fork":
        os.fork()

def late():
    import imported_late
    return imported_late.VALUE

def modules():
    import sys
    return [name for name in ("torch", "transformers", "numpy") if name in sys.modules]
"""

LIMITS = Limits(cpu_s=0.5, wall_s=HANG_S, memory_mb=256)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("functions")
    (folder / "sandboxed.py").write_text(FUNCTIONS)
    (folder / "imported_late.py").write_text("VALUE = 7")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        yield "sandboxed:"


@pytest.fixture(scope="module")
def sandbox(place: str) -> Iterator[Sandbox]:
    with Sandbox(workers=2, limits=LIMITS, preload=["sandboxed"]) as shared:
        assert shared.call("sandboxed:echo", 1) == 1
        yield shared


def lost(sandbox: Sandbox, function: str, *arguments: object) -> str:
    """Why the worker was lost."""
    with pytest.raises(CallLost) as caught:
        sandbox.call(f"sandboxed:{function}", *arguments)
    assert sandbox.call("sandboxed:echo", "still here") == "still here"
    return caught.value.reason


def eventually(condition: Callable[[], bool], seconds: float = HANG_S) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def test_values_and_text_survive_the_trip(sandbox: Sandbox) -> None:
    for value in ("", "\0", "\ud800", "‮x", [1, 2.5, None, {"a": "b"}], "x" * 100_000):
        assert sandbox.call("sandboxed:echo", value) == value


def test_cpu_limit(sandbox: Sandbox) -> None:
    assert lost(sandbox, "spin") == "cpu"


def test_wall_limit(place: str) -> None:
    with Sandbox(workers=1, limits=replace(LIMITS, wall_s=1.0), preload=["sandboxed"]) as hasty:
        started = time.monotonic()
        with pytest.raises(CallLost) as caught:
            hasty.call(f"{place}sleep", HANG_S)
        assert caught.value.reason == "wall"
        assert 1.0 <= time.monotonic() - started < HANG_S / 2


def test_memory_limit(sandbox: Sandbox) -> None:
    assert sandbox.call("sandboxed:grow", 100) == 100 << 20
    assert lost(sandbox, "grow", 300) == "memory"


def test_resident_memory_stays_within_its_limit(sandbox: Sandbox) -> None:
    host, peak, stop = psutil.Process(sandbox.host_pid()), [0.0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.002):
            for worker in host.children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    peak[0] = max(peak[0], worker.memory_info().rss / 2**20)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with contextlib.suppress(CallLost):
        sandbox.call("sandboxed:touch_pages", 200)
    with pytest.raises(CallLost):
        sandbox.call("sandboxed:touch_pages", 4000)
    stop.set()
    watcher.join()
    assert 150 < peak[0] <= LIMITS.memory_mb + 100


def test_recursion_and_death(sandbox: Sandbox) -> None:
    assert lost(sandbox, "deep") == "recursion"
    assert lost(sandbox, "leave") == "died"


def test_an_exception_is_no_loss(sandbox: Sandbox) -> None:
    with pytest.raises(CallFailed, match="KeyError: 'no such thing'"):
        sandbox.call("sandboxed:fail")


@pytest.mark.parametrize("what", ["shell", "write", "socket", "eval", "fork"])
def test_reaching_outside_ends_the_worker(sandbox: Sandbox, what: str) -> None:
    assert lost(sandbox, "reach", what) == "forbidden"
    assert not Path("/tmp/r1rl-sandbox").exists()


def test_an_import_is_no_attempt_to_write(sandbox: Sandbox) -> None:
    assert sandbox.call("sandboxed:late") == 7


def test_workers_are_light(sandbox: Sandbox, checker: Checker) -> None:
    assert sandbox.call("sandboxed:modules") == []
    maps = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in checker.sandbox.pids())
    assert maps
    assert "torch" not in maps


def test_many_threads_share_the_workers(sandbox: Sandbox) -> None:
    def one(number: int) -> object:
        if number % 10 == 0:
            try:
                return sandbox.call("sandboxed:leave")
            except CallLost as loss:
                return loss.reason
        return sandbox.call("sandboxed:echo", number)

    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(one, range(60)))
    assert results == ["died" if number % 10 == 0 else number for number in range(60)]


def test_an_idle_worker_that_was_killed_costs_nothing(sandbox: Sandbox) -> None:
    pids = sandbox.pids()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not any(map(alive, pids)))
    for number in range(4):
        assert sandbox.call("sandboxed:echo", number) == number


def kill_the_busy_one(sandbox: Sandbox, busy_s: float) -> threading.Thread:
    """Kills, from a thread, the first worker that has used so much processor time for its call."""
    host = psutil.Process(sandbox.host_pid())
    idle = {worker.pid: worker.cpu_times().user for worker in host.children()}

    def is_busy(worker: psutil.Process) -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            return worker.cpu_times().user - idle.get(worker.pid, 0.0) > busy_s
        return False

    def run() -> None:
        while not (busy := [worker for worker in host.children() if is_busy(worker)]):
            time.sleep(0.01)
        busy[0].kill()

    killer = threading.Thread(target=run, daemon=True)
    killer.start()
    return killer


def test_kill_9_of_a_worker_in_the_middle(place: str) -> None:
    with Sandbox(workers=2, limits=replace(LIMITS, cpu_s=HANG_S), preload=["sandboxed"]) as patient:
        assert patient.call(f"{place}echo", 1) == 1
        killer = kill_the_busy_one(patient, 0.1)
        assert lost(patient, "spin") == "killed"
        killer.join(HANG_S)


def test_kill_9_of_the_host(sandbox: Sandbox) -> None:
    sandbox.call("sandboxed:echo", 0)
    host, workers = sandbox.host_pid(), sandbox.pids()
    os.kill(host, signal.SIGKILL)
    assert eventually(lambda: not any(map(alive, workers)))
    assert [sandbox.call("sandboxed:echo", number) for number in range(4)] == [0, 1, 2, 3]
    assert sandbox.host_pid() != host


def test_a_lost_check_is_a_verdict_of_its_own() -> None:
    hard = r"\int_0^1 e^{\sin(x^{5})\cos(x)}\sqrt{\tan x} dx"
    with Checker(workers=1, limits=Limits(cpu_s=1.0, wall_s=HANG_S)) as checker:
        verdict = checker.equivalent("1", hard)
        assert verdict.outcome is Outcome.TIMEOUT
        assert not verdict
        assert verdict.lost
        workers = checker.sandbox.pids()
        assert checker.equivalent("1", hard) == verdict
        assert checker.sandbox.pids() == workers, "a verdict is remembered: the second check costs no worker"
        assert checker.equivalent("x+1", "1+x")
        killer = kill_the_busy_one(checker.sandbox, 0.1)
        verdict = checker.equivalent("2", hard)
        killer.join(HANG_S)
        assert (verdict.outcome, verdict.path) == (Outcome.CRASH, "killed")
        assert checker.equivalent("2", hard).outcome is Outcome.TIMEOUT  # a killed check is not remembered


def test_closing_ends_everything(place: str) -> None:
    sandbox = Sandbox(workers=2, limits=LIMITS, preload=["sandboxed"])
    sandbox.map(f"{place}echo", [(1,), (2,)])
    pids = [sandbox.host_pid(), *sandbox.pids()]
    sandbox.close()
    assert eventually(lambda: not any(map(alive, pids)))
    with pytest.raises(R1Error, match="closed"):
        sandbox.call(f"{place}echo", 1)


TRAINER = """
    import os, sys, threading, time
    from r1rl.verify import Checker, Limits
    checker = Checker(workers=2, limits=Limits(cpu_s={hang_s}, wall_s={hang_s}))
    started = threading.Thread(target=checker.equivalent, args=("x+1", "1+x"))  # a thread that ends: no death signal
    started.start(); started.join()
    if {fork!r}:
        if (child := os.fork()) == 0:  # holds a copy of every socket, as a data loader's worker would
            time.sleep({hang_s}); os._exit(0)
    for gold in ("1", "2"):
        hard = r"\\int_0^1 e^{{\\sin(x^{{5}})\\cos(x)}}\\sqrt{{\\tan x}} dx"
        threading.Thread(target=checker.equivalent, args=(gold, hard), daemon=True).start()
    while len(os.listdir(f"/proc/{{os.getpid()}}/task")) < 3:
        time.sleep(0.01)
    time.sleep(0.5)
    print(checker.sandbox.host_pid(), child if {fork!r} else 0, flush=True)
    time.sleep({hang_s})
"""


@pytest.mark.parametrize("fork", [False, True])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_a_killed_trainer(number: signal.Signals, fork: bool) -> None:
    code = textwrap.dedent(TRAINER).format(fork=fork, hang_s=HANG_S)
    trainer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert trainer.stdout is not None
    host, child = map(int, trainer.stdout.readline().split())
    workers = [worker.pid for worker in psutil.Process(host).children()]
    assert len(workers) == 2
    assert eventually(lambda: all(psutil.Process(pid).cpu_times().user > 0.1 for pid in workers))  # in a check
    trainer.send_signal(number)
    trainer.wait(HANG_S)
    try:
        assert eventually(lambda: not any(map(alive, [host, *workers])))
        assert not fork or alive(child), "the workers ended although another process holds their sockets"
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
        trainer.stdout.close()


def test_a_call_that_finds_no_worker_free_in_time_is_an_error_for_the_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("r1rl.verify.sandbox._QUEUE_S", 0.0)
    with Sandbox(1) as sandbox:
        sandbox._slots.get()  # as a call that is still running
        with pytest.raises(R1Error, match=r"scoring\.workers"):
            sandbox.call("json:dumps", 1)

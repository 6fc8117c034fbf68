"""Several ``r1rl run`` of one run: they meet, start each stage together, and end together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from r1rl.distributed.interrupt import Interrupt, Preempted
from r1rl.errors import ConfigError, TrainingError
from r1rl.recipe.launch import leading
from r1rl.recipe.layout import LaunchFile, Machines, StageLayout
from r1rl.recipe.machines import Meeting, Order, check_order
from tests.support.waits import HANG_S


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def machine(rank: int, port: int, count: int = 2) -> Machines:
    return Machines(count, rank, "127.0.0.1", port)


@pytest.fixture
def order(tmp_path: Path) -> Order:
    config = tmp_path / "config.yaml"
    config.write_text("name: x")
    return Order.of(config, "zero", StageLayout(2, 4, LaunchFile.find("zero2")))


class Follower(threading.Thread):
    """A machine that follows, in a thread; what it was ordered, and how it ended."""

    def __init__(self, machines: Machines, leaves_at: int | None = None) -> None:
        super().__init__(daemon=True)
        self.machines, self.leaves_at = machines, leaves_at
        self.orders: list[Order] = []
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            meeting = Meeting(self.machines, HANG_S)
            for order in meeting.orders(Interrupt()):
                if len(self.orders) == self.leaves_at:
                    meeting.leave(ConfigError("no such file here"))
                    return
                self.orders.append(order)
                meeting.ready()
            meeting.leave(None)
        except BaseException as error:
            self.error = error


def test_every_machine_starts_what_the_first_one_orders(order):
    port = free_port()
    followers = [Follower(machine(rank, port, 3)) for rank in (1, 2)]
    with leading(machine(0, port, 3), Interrupt()) as meeting:
        meeting.announce(order, Interrupt())
        meeting.announce(order, Interrupt())
    for follower in followers:
        follower.join(HANG_S)
        assert follower.orders == [order, order]
        assert follower.error is None


def test_a_failure_on_the_first_machine_ends_the_others():
    port = free_port()
    follower = Follower(machine(1, port))
    with pytest.raises(ConfigError), leading(machine(0, port), Interrupt()):
        raise ConfigError("wrong key")
    follower.join(HANG_S)
    assert isinstance(follower.error, TrainingError)
    assert "failed on the machine of rank 0: wrong key" in str(follower.error)


def test_a_preemption_of_the_first_machine_is_one_of_all():
    port, asked = free_port(), Interrupt()
    follower = Follower(machine(1, port))
    with pytest.raises(Preempted), leading(machine(0, port), asked):
        raise Preempted("asked to end")
    follower.join(HANG_S)
    assert isinstance(follower.error, Preempted)


def test_a_machine_that_cannot_start_its_share_says_why(order):
    port = free_port()
    Follower(machine(1, port), leaves_at=1)
    meeting = Meeting(machine(0, port))
    meeting.gather(Interrupt())
    meeting.announce(order, Interrupt())
    with pytest.raises(TrainingError, match="machine 1: no such file here"):
        meeting.announce(order, Interrupt())


def test_a_machine_that_never_comes_is_named_with_its_command():
    meeting = Meeting(machine(0, free_port()), join_s=0.5)
    with pytest.raises(TrainingError, match=r"no sign of machine 1 of 2 .*--num-machines 2 --machine-rank 1"):
        meeting.gather(Interrupt())


def test_a_first_machine_that_never_comes_is_named():
    with pytest.raises(TrainingError, match="rank 0 did not answer within 1 s"):
        Meeting(machine(1, free_port()), join_s=1.0)


LEADER = """
import sys, time
from r1rl.distributed.interrupt import Interrupt
from r1rl.recipe.layout import Machines
from r1rl.recipe.machines import Meeting
meeting = Meeting(Machines(2, 0, "127.0.0.1", int(sys.argv[1])))
meeting.gather(Interrupt())
print("met", flush=True)
time.sleep(3600)
"""


def test_a_first_machine_that_dies_is_noticed(order):
    port = free_port()
    leader = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(LEADER), str(port)], stdout=subprocess.PIPE, text=True
    )
    try:
        follower = Follower(machine(1, port))
        assert leader.stdout is not None
        assert leader.stdout.readline() == "met\n"
        os.kill(leader.pid, signal.SIGKILL)
        follower.join(HANG_S)
    finally:
        leader.kill()
        leader.wait()
    assert isinstance(follower.error, TrainingError)
    assert "127.0.0.1) ended unexpectedly" in str(follower.error)


def test_an_order_for_a_file_that_is_not_shared_is_refused(order, tmp_path):
    assert check_order(order, gpus=0) == tmp_path / "config.yaml"
    with pytest.raises(ConfigError, match="4 processes per machine, but 2 GPUs are visible here"):
        check_order(order, gpus=2)
    (tmp_path / "config.yaml").write_text("name: y")
    with pytest.raises(ConfigError, match="a file system that all machines share"):
        check_order(order, gpus=0, wait_s=0.1)

"""A first signal is a flag, a second one has its usual effect, and the message is a command to type."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from r1rl.distributed.deadline import deadline
from r1rl.distributed.interrupt import PREEMPTED, REQUEUE_FILE, SIGNALS, Interrupt, Interrupted, Preempted, same_command
from r1rl.errors import EngineError


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)])
def test_the_first_signal_is_a_flag(number: signal.Signals, code: int, capfd: pytest.CaptureFixture[str]) -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    with Interrupt() as interrupt:
        interrupt.check()
        with interrupt:  # a stage inside a run
            os.kill(os.getpid(), number)
        with pytest.raises(Interrupted):
            interrupt.check()
        assert interrupt.ended("saved").exit_code == code
    assert isinstance(interrupt.ended("saved"), Preempted)
    assert [signal.getsignal(each) for each in SIGNALS] == before
    assert ("Ctrl-C again ends at once" in capfd.readouterr().err) == (number == signal.SIGINT)


def test_a_second_ctrl_c_ends_at_once() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores SIGINT
    try:
        with Interrupt():
            os.kill(os.getpid(), signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_signal_of_another_kind_is_still_a_flag() -> None:
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.ended("saved").exit_code == 75


def test_a_deadline_fires_while_ctrl_c_is_only_noted() -> None:
    with Interrupt() as interrupt:
        with pytest.raises(EngineError, match="syncing took more than"), deadline(0.2, "syncing"):
            threading.Event().wait(30)
        assert not interrupt.requested
        with deadline(60, "quick"):
            os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.requested


def test_who_is_asked_by_a_scheduler_goes_back_into_its_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REQUEUE_FILE, str(tmp_path / "requeue"))
    for number in (signal.SIGINT, signal.SIGTERM):
        with Interrupt() as interrupt:
            os.kill(os.getpid(), number)
        interrupt.leave_mark(tmp_path)
        assert (tmp_path / PREEMPTED).exists()
        assert (tmp_path / "requeue").exists() == (number == signal.SIGTERM)


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (
            ["/env/bin/r1rl", "run", "my file.yaml", "grpo.learning_rate=1e-4"],
            "r1rl run 'my file.yaml' grpo.learning_rate=1e-4",
        ),
        (["/src/r1rl/__main__.py", "run", "a.yaml"], "python -m r1rl run a.yaml"),
        (["/src/r1rl/grpo/__main__.py", "--config", "a.yaml"], ""),
        (["notebook.py"], ""),
        ([], ""),
    ],
)
def test_the_command_that_goes_on(words: list[str], command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", words)
    assert same_command() == command

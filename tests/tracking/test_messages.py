"""Where the modules' log records go: to the console of a command, to nobody else's."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from r1rl.tracking.console import Console
from r1rl.tracking.messages import show_messages

log = logging.getLogger("r1rl.tests")
R1RL = logging.getLogger("r1rl")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    handlers, level = R1RL.handlers[:], R1RL.level
    R1RL.handlers[:] = []
    R1RL.setLevel(logging.NOTSET)
    yield
    R1RL.handlers[:] = handlers
    R1RL.setLevel(level)


def printed(rank: int = 0, quiet: bool = False) -> str:
    out = io.StringIO()
    show_messages(Console(quiet=quiet, stream=out), rank, always=True)
    log.debug("a detail")
    log.info("step %d of [bold]%s[/bold]", 3, "x\x1b")
    log.warning("lost")
    return out.getvalue()


def test_info_is_a_plain_line_and_a_warning_says_so() -> None:
    assert printed() == "step 3 of [bold]x\\x1b[/bold]\nwarning: lost\n"


def test_other_ranks_only_warn_and_name_themselves() -> None:
    assert printed(rank=2) == "rank 2: warning: lost\n"


def test_a_quiet_console_leaves_warnings_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(quiet=True) == ""
    assert printed(rank=1, quiet=True) == ""
    assert capsys.readouterr().err == "warning: lost\nrank 1: warning: lost\n"


def test_messages_stand_beside_a_progress_bar() -> None:
    out = io.StringIO()
    console = Console(stream=out)
    show_messages(console, always=True)
    with console.progress("train", total=1) as progress:
        log.info("hello")
        progress.update(1)
    assert "hello" in out.getvalue().splitlines()
    assert "train 1/1" in out.getvalue()


def test_the_last_console_prints() -> None:
    first, second = io.StringIO(), io.StringIO()
    show_messages(Console(stream=first), always=True)
    show_messages(Console(stream=second))
    log.info("hello")
    assert (first.getvalue(), second.getvalue()) == ("", "hello\n")


def test_a_program_that_set_up_logging_gets_records(caplog: pytest.LogCaptureFixture) -> None:
    out = io.StringIO()
    show_messages(Console(stream=out))  # pytest has handlers of its own
    with caplog.at_level(logging.INFO):
        log.info("hello")
    assert out.getvalue() == ""
    assert caplog.messages == ["hello"]


def test_a_program_without_logging_sees_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.root, "handlers", [logging.NullHandler()])
    out = io.StringIO()
    show_messages(Console(stream=out))
    log.info("hello")
    assert out.getvalue() == "hello\n"

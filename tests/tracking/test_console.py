"""What appears on a terminal, in a log file, and when quiet."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1rl.tracking.console import Console, duration, pace, shown, visible


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_are_rate_limited() -> None:
    out, clock = io.StringIO(), Clock()
    console = Console(stream=out, clock=clock, interval=5)
    with console.progress("train", total=10) as progress:
        for step in range(1, 11):
            clock.now += 2
            progress.update(step, reward=step / 10, length=123456.0)
    lines = out.getvalue().splitlines()
    assert lines[0] == "train 1/10  2 s/step  0:02 elapsed  0:18 left  reward 0.1 · length 123,456"
    assert [line.split()[1] for line in lines] == ["1/10", "4/10", "7/10", "10/10"]
    assert "\x1b" not in out.getvalue()


def test_the_last_line_always_appears_once() -> None:
    out, clock = io.StringIO(), Clock()
    with Console(stream=out, clock=clock).progress("sample", unit="completion") as progress:
        progress.update(10)
        progress.update(20)
    assert [line.split()[1] for line in out.getvalue().splitlines()] == ["10", "20"]


def test_a_short_task_inside_another_says_nothing_in_a_log_file() -> None:
    out, clock = io.StringIO(), Clock()
    console = Console(stream=out, clock=clock, interval=5)
    with console.progress("train", total=2) as outer:
        for step, seconds in ((1, 1), (2, 4)):
            with console.progress("sample", total=3) as inner:
                for done in range(1, 4):
                    clock.now += seconds
                    inner.update(done)
            outer.update(step)
    assert [" ".join(line.split()[:2]) for line in out.getvalue().splitlines()] == [
        "train 1/2",
        "sample 2/3",
        "sample 3/3",
        "train 2/2",
    ]


def test_resumed_units_are_not_counted_in_the_rate() -> None:
    clock = Clock()
    with Console(quiet=True, clock=clock).progress("train", total=100, done=90) as progress:
        assert progress.rate is None
        clock.now += 10
        progress.update(95)
        assert (progress.rate, progress.remaining, progress.elapsed) == (0.5, 10.0, 10.0)


def test_quiet_is_silent() -> None:
    for stream in (io.StringIO(), Terminal()):
        console = Console(quiet=True, stream=stream)
        with console.progress("train", total=2) as progress:
            progress.update(1, reward=1.0)
        console.say("hello")
        console.table("t", ["a"], [[1]])
        console.samples("s", [{"completion": "x"}])
        assert stream.getvalue() == ""


def test_the_live_view_restores_the_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    console = Console(stream=out)

    def fail() -> None:
        with console.progress("train", total=3) as outer:
            outer.update(1, reward=0.25)
            with console.progress("score", total=2) as inner:
                inner.update(2)
                console.say("remark [bold]as written[/bold]")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    text = out.getvalue()
    assert "train" in text
    assert "score" in text
    assert "reward 0.25" in text
    assert "[bold]as written[/bold]" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    with console.progress("again", total=1) as progress:  # and it can be used again
        progress.update(1)
    assert "again" in out.getvalue()


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert not Console(stream=Terminal()).live


def test_tables_and_samples_show_hostile_text_as_text() -> None:
    out = io.StringIO()
    console = Console(stream=out)
    console.table("results", ["stage", "pass@1"], [["base", 0.123456], ["[red]zero[/red]", None], ["\x1b[2J", 1]])
    console.samples(
        "before",
        [
            {"prompt": "1+1", "completion": "x" * 5000, "rewards": {"accuracy": 1.0, "format": 0}, "length": 9},
            {"prompt": [{"role": "user", "content": "hi"}], "completion": "\x1b]0;title\x07\r\u202e", "reward": None},
        ],
    )
    text = out.getvalue()
    assert "0.1235" in text
    assert "[red]zero[/red]" in text
    assert "accuracy 1 · format 0 · length 9" in text
    assert "(3800 more characters)" in " ".join(text.split())  # wherever the width broke the line
    assert "[user] hi" in text
    assert not set(text) & {"\x1b", "\x07", "\r", "\u202e"}
    assert "\\x1b]0;title" in text


@given(st.text())
def test_visible_text_holds_no_control(text: str) -> None:
    assert all(char in "\n\t" or char.isprintable() or char.isspace() for char in visible(text))
    assert not set(visible(text)) & {"\x1b", "\r", "\x85", "\u2028", "\x0b", "\x0c"}


def test_numbers_for_people() -> None:
    assert [shown(v) for v in (3, 12345, 0.00001234, 1.0, 12345.6, float("nan"), True, "x")] == [
        "3",
        "12,345",
        "1.234e-05",
        "1",
        "12,346",
        "nan",
        "True",
        "x",
    ]
    assert [duration(v) for v in (0, 247, 3753, 90000)] == ["0:00", "4:07", "1:02:33", "1d 01:00:00"]
    assert (pace(None, "step"), pace(4.0, "row"), pace(0.5, "step")) == ("", "4 row/s", "2 s/step")

"""Progress of a run for people: a live view on a terminal, plain lines elsewhere, or nothing.

The object is passed to whatever reports progress. Control characters in text that a model wrote are
escaped, so it cannot move the cursor, change colours or imitate the view.
"""

from __future__ import annotations

import os
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TextIO

from rich import box
from rich.console import Console as RichConsole
from rich.console import RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.progress import Progress as RichProgress
from rich.table import Column, Table
from rich.text import Text

Value = float | int | str
CLIP = 1200
"""Characters of one text shown by ``samples``."""


class Console:
    """Writes progress, tables and messages to a stream (standard output by default).

    Args:
        quiet: write nothing.
        stream: where to write; a live view is drawn only if it is a terminal.
        clock: seconds, for rates and remaining time.
        interval: least seconds between two plain lines of one task; its first and last are always written.
    """

    def __init__(
        self,
        quiet: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        interval: float = 5.0,
    ) -> None:
        target = sys.stdout if stream is None else stream
        self.quiet = quiet
        self.live = not quiet and target.isatty() and os.environ.get("TERM") != "dumb"
        self.clock = clock
        self.interval = interval
        width = None if self.live else int(os.environ.get("COLUMNS") or 120)
        self._rich = RichConsole(
            file=stream, quiet=quiet, width=width, force_terminal=self.live, highlight=False, markup=False, emoji=False
        )
        self._view: _View | None = None
        self._depth = 0

    def say(self, text: str) -> None:
        """Writes a message, above the live view if there is one."""
        self._rich.print(Text(visible(text)), soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[Value | None]]) -> None:
        """A table; numbers are right-aligned and shown with four significant digits."""
        cells = [list(row) for row in rows]
        view = Table(box=box.SIMPLE_HEAD)
        for index, name in enumerate(columns):
            numeric = any(isinstance(row[index], int | float) for row in cells)
            view.add_column(visible(name), justify="right" if numeric else "left", overflow="fold")
        for row in cells:
            view.add_row(*(Text("" if cell is None else shown(cell)) for cell in row))
        self._rich.print(Text(visible(title), style="bold"), soft_wrap=True)
        self._rich.print(view)

    def samples(self, title: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Some prompts and completions: the numbers of each row on one line, its texts below, clipped."""
        self._rich.print(Text(visible(title), style="bold"))
        for row in rows:
            numbers, texts = _split(row)
            if numbers:
                self._rich.print(Text("  " + _joined(numbers), style="cyan"))
            for name, text in texts.items():
                clipped = text if len(text) <= CLIP else f"{text[:CLIP]} … ({len(text) - CLIP} more characters)"
                self._rich.print(
                    Padding(Text.assemble((f"{visible(name)}: ", "dim"), visible(clipped)), (0, 0, 0, 4), expand=False)
                )
            self._rich.print()

    def progress(self, title: str, total: int | None = None, done: int = 0, unit: str = "step") -> Progress:
        """A long task, used as a context manager; one inside another is shown under it.

        Args:
            total: number of units; None if unknown.
            done: units finished before it started (a resumed run), not counted in the rate.
        """
        return Progress(self, title, total, done, unit)

    def _enter(self) -> _View:
        if self._view is None:
            self._view = _View(self._rich)
            self._view.start()
        return self._view

    def _leave(self) -> None:
        if self._view is not None and self._depth == 0:
            self._view.stop()
            self._view = None


class Progress:
    """One long task: progress, rate, remaining time and a few values. Made by ``Console.progress``."""

    def __init__(self, console: Console, title: str, total: int | None, done: int, unit: str) -> None:
        self._console, self.title, self.total, self.done, self.unit = console, visible(title), total, done, unit
        self.values: dict[str, Value] = {}
        self._first = done
        self._start = self._printed = console.clock()
        self._printed_done: int | None = None
        self._view: _View | None = None
        self._nested = False
        self._task: Any = None

    def __enter__(self) -> Self:
        self._start = self._console.clock()
        self._nested = self._console._depth > 0
        self._console._depth += 1
        # A short task inside another writes no line to a log file; a long one does.
        self._printed = self._start if self._nested else -float("inf")
        if self._console.live:
            self._view = self._console._enter()
            self._task = self._view.add_task(self.title, total=self.total, completed=self.done, owner=self)
        return self

    def update(self, done: int | None = None, **values: Value) -> None:
        """``done`` units are finished in all (None: as before); ``values`` replace those shown under these names."""
        self.done = self.done if done is None else done
        self.values.update(values)
        if self._view is not None:
            self._view.update(self._task, completed=self.done)
        elif not self._console.quiet and self._console.clock() - self._printed >= self._console.interval:
            self._print()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._console._depth -= 1
        if self._view is not None:
            if self._nested:
                self._view.remove_task(self._task)
            self._console._leave()
            self._view = None
        elif not self._console.quiet and kind is None and self._printed_done != self.done and self._speaks:
            self._print()

    @property
    def elapsed(self) -> float:
        """Seconds since it was entered."""
        return self._console.clock() - self._start

    @property
    def rate(self) -> float | None:
        """Units per second since it was entered; None before the first."""
        finished = self.done - self._first
        return finished / self.elapsed if finished > 0 and self.elapsed > 0 else None

    @property
    def remaining(self) -> float | None:
        """Seconds left at the rate so far; None if unknown or done."""
        if self.total is None or self.rate is None or self.done >= self.total:
            return None
        return (self.total - self.done) / self.rate

    @property
    def _speaks(self) -> bool:
        return not self._nested or self._printed_done is not None

    def _print(self) -> None:
        self._printed, self._printed_done = self._console.clock(), self.done
        count = f"{self.done}/{self.total}" if self.total is not None else f"{self.done}"
        parts = [f"{self.title} {count}", pace(self.rate, self.unit), f"{duration(self.elapsed)} elapsed"]
        if self.remaining is not None:
            parts.append(f"{duration(self.remaining)} left")
        if self.values:
            parts.append(_joined(self.values))
        self._console._rich.print(Text("  ".join(part for part in parts if part)), soft_wrap=True)


class _Measured(ProgressColumn):
    """Rate, elapsed and remaining time as ``Progress`` measures them."""

    def render(self, task: Task) -> Text:
        owner: Progress = task.fields["owner"]
        left = "" if owner.remaining is None else f"{duration(owner.remaining)} left"
        parts = [pace(owner.rate, owner.unit), duration(owner.elapsed), left]
        return Text("  ".join(part for part in parts if part), style="dim")


class _View(RichProgress):
    """The bars of the tasks now running, each with its values on the line below."""

    def __init__(self, console: RichConsole) -> None:
        columns = (
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            _Measured(table_column=Column(no_wrap=True)),
        )
        super().__init__(*columns, console=console, refresh_per_second=4)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            owner: Progress = task.fields["owner"]
            if owner.values:
                yield Text("  " + _joined(owner.values), style="cyan", overflow="ellipsis")


def visible(text: str) -> str:
    """The text with every control, format and unassigned character escaped, except line breaks and tabs."""
    return "".join(
        char if char.isprintable() or char in "\n\t" or unicodedata.category(char) == "Zs" else ascii(char)[1:-1]
        for char in text
    )


def shown(value: Value) -> str:
    """A value for people: four significant digits, thousands separated."""
    if isinstance(value, bool | str):
        return visible(str(value))
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"


def pace(rate: float | None, unit: str) -> str:
    """Units per second, or seconds per unit if that is the larger number."""
    if not rate:
        return ""
    return f"{rate:.3g} {unit}/s" if rate >= 1 else f"{1 / rate:.3g} s/{unit}"


def duration(seconds: float) -> str:
    """``4:07``, ``1:02:33`` or ``3d 04:05:06``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours:02}:{minutes:02}:{rest:02}"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _joined(values: Mapping[str, Value]) -> str:
    return " · ".join(f"{visible(name)} {shown(value)}" for name, value in values.items())


def _split(row: Mapping[str, Any]) -> tuple[dict[str, Value], dict[str, str]]:
    numbers: dict[str, Value] = {}
    texts: dict[str, str] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            numbers.update({key: inner for key, inner in value.items() if isinstance(inner, int | float)})
        elif isinstance(value, int | float):
            numbers[name] = value
        elif isinstance(value, list):  # the messages of a conversation
            texts[name] = "\n".join(f"[{m.get('role')}] {m.get('content')}" for m in value if isinstance(m, Mapping))
        elif value is not None:
            texts[name] = str(value)
    return numbers, texts

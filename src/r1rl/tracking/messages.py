"""What r1rl's modules log, for the person at the terminal: beside the live view of a Console, in its plain lines."""

from __future__ import annotations

import logging
import os
import sys

from r1rl.tracking.console import Console, visible

_NAME = "r1rl"


def show_messages(console: Console, rank: int = 0, always: bool = False) -> None:
    """Print the records of the ``r1rl`` loggers on ``console``, in place of the one that printed them before.

    Rank 0 prints INFO too, unless its console is quiet; warnings are printed by every rank, on standard error where
    its console is quiet. A program that has set up logging itself gets records, and nothing is printed.

    Args:
        always: print even there: the process is a command of r1rl's.
    """
    logger = logging.getLogger(_NAME)
    shown = [handler for handler in logger.handlers if isinstance(handler, _Handler)]
    if not (always or shown) and _set_up_elsewhere(logger):
        return
    for handler in shown:
        logger.removeHandler(handler)
    logger.addHandler(_Handler(console, rank))
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)


def show_command_messages() -> None:
    """:func:`show_messages` for a process that is a command of r1rl's, until its run brings a console of its own."""
    rank = int(os.environ.get("RANK", "0"))
    show_messages(Console(quiet=rank > 0), rank, always=True)


def _set_up_elsewhere(logger: logging.Logger) -> bool:
    handlers = [*logger.handlers, *logging.root.handlers]
    return any(not isinstance(handler, logging.NullHandler) for handler in handlers)


class _Handler(logging.Handler):
    def __init__(self, console: Console, rank: int) -> None:
        super().__init__(logging.WARNING if console.quiet or rank else logging.INFO)
        self.setFormatter(_Line(rank))
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            if self._console.quiet:
                print(visible(text), file=sys.stderr, flush=True)
            else:
                self._console.say(text)
        except Exception:  # as every handler: a message that cannot be printed does not end the run
            self.handleError(record)


class _Line(logging.Formatter):
    """``the text``, ``warning: the text``, ``rank 3: warning: the text``."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self._origin = f"rank {rank}: " if rank else ""

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        return f"{self._origin}{level}{super().format(record)}"

"""Collectives on plain objects: every process calls them, in the same order, and all get the same result."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from r1rl.errors import R1Error

T = TypeVar("T")


def gather(items: list[T]) -> list[T]:
    """The items of all processes, in rank order, on every process."""
    gathered: list[T] = gather_object(items) if PartialState().num_processes > 1 else items
    return gathered


def from_main(value: T) -> T:
    """The main process's value, on every process; what the others pass is ignored."""
    shared: T = broadcast_object_list([value])[0] if PartialState().num_processes > 1 else value
    return shared


@contextlib.contextmanager
def failing_together(kind: type[R1Error]) -> Iterator[None]:
    """Raises on every process where the block failed on one, so that no process waits for one that has left.

    Raises:
        R1Error: of this ``kind``: the process's own error, or the message of the first process that failed.
    """
    failure: R1Error | None = None
    try:
        yield
    except kind as error:
        failure = error
    messages = [message for message in gather([failure and str(failure)]) if message]
    if messages:
        raise failure or kind(messages[0])

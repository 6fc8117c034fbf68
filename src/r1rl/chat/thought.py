"""Splits a response into thought and answer while it is being generated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

_TAGS = {"<think>": True, "</think>": False, "<answer>": None, "</answer>": None}
"""Each tag, and whether what follows is thought; None changes nothing."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text of a response without its tags."""

    text: str
    thought: bool


class Splitter:
    """Takes pieces as they arrive; a tag may be split between two of them."""

    def __init__(self) -> None:
        self.thinking = False
        self._held = ""

    def feed(self, text: str) -> Iterator[Piece]:
        """What can be shown so far."""
        self._held += text
        while self._held:
            tag, at = min(
                ((tag, at) for tag in _TAGS if (at := self._held.find(tag)) >= 0), key=itemgetter(1), default=("", -1)
            )
            if at < 0:
                yield from self._release(len(self._held) - _open_end(self._held))
                return
            yield from self._release(at)
            self._held = self._held.removeprefix(tag)
            change = _TAGS[tag]
            self.thinking = self.thinking if change is None else change

    def end(self) -> Iterator[Piece]:
        """The rest, held back as the possible start of a tag."""
        yield from self._release(len(self._held))

    def _release(self, count: int) -> Iterator[Piece]:
        if count:
            yield Piece(self._held[:count], self.thinking)
            self._held = self._held[count:]


def _open_end(text: str) -> int:
    """Length of the longest suffix of the text that may start a tag."""
    longest = max(map(len, _TAGS)) - 1
    ends = range(min(longest, len(text)), 0, -1)
    return next((n for n in ends if any(tag.startswith(text[-n:]) for tag in _TAGS)), 0)

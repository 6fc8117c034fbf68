"""What every reward needs of a completion: its text, its thought and its final part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def texts_of(completions: list[Any], prefill: list[str] | None = None) -> list[str]:
    """Each completion as one text, plain or conversational, with what the template pre-filled in front."""
    texts = [c if isinstance(c, str) else "".join(str(m.get("content") or "") for m in c) for c in completions]
    if prefill is None:
        return texts
    return [_with_prefill(before, text) for before, text in zip(prefill, texts, strict=True)]


def _with_prefill(before: str, text: str) -> str:
    """A completion that repeats the tag which its template already opened counts once, as chat templates differ."""
    opened = before.strip()
    return text if opened and text.lstrip().startswith(opened) else before + text


def thought_of(text: str) -> str:
    """The chain of thought: what stands between ``<think>`` and ``</think>``; without these tags all of the text."""
    before, closed, _ = text.partition("</think>")
    _, opened, thought = before.partition("<think>")
    return thought if opened else (before if closed else text)


def summary_of(text: str) -> str:
    """What follows the thought; all of a text without one; nothing where the thought never closed."""
    _, closed, summary = text.rpartition("</think>")
    return summary if closed else ("" if "<think>" in text else text)


def part_of(text: str, part: str) -> str:
    """The ``response`` (all of it) or its final ``summary``."""
    return _PARTS[part](text)


_PARTS: dict[str, Callable[[str], str]] = {"response": str, "summary": summary_of}

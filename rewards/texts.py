"""The parts of a completion that rewards use: its text, its thought and its final part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def texts_of(completions: list[Any], prefill: list[str] | None = None) -> list[str]:
    """Each completion, plain or conversational, as one text that begins with the template's prefill."""
    texts = [c if isinstance(c, str) else "".join(str(m.get("content") or "") for m in c) for c in completions]
    if prefill is None:
        return texts
    return [_with_prefill(before, text) for before, text in zip(prefill, texts, strict=True)]


def _with_prefill(before: str, text: str) -> str:
    """If a completion repeats the tag that its template already opened, the tag counts once, as chat templates
    differ."""
    opened = before.strip()
    return text if opened and text.lstrip().startswith(opened) else before + text


def thought_of(text: str) -> str:
    """The chain of thought: the text between ``<think>`` and ``</think>``; without these tags the whole text."""
    before, closed, _ = text.partition("</think>")
    _, opened, thought = before.partition("<think>")
    return thought if opened else (before if closed else text)


def summary_of(text: str) -> str:
    """The text after the thought; the whole text if there is none; empty if the thought never closes."""
    _, closed, summary = text.rpartition("</think>")
    return summary if closed else ("" if "<think>" in text else text)


def part_of(text: str, part: str) -> str:
    """The ``response`` (all of it) or its final ``summary``."""
    return _PARTS[part](text)


_PARTS: dict[str, Callable[[str], str]] = {"response": str, "summary": summary_of}

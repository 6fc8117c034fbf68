"""Finds the program in a completion: the last fenced block of the asked language."""

from __future__ import annotations

import re

_LABELS = {
    "python": frozenset(("python", "python3", "py", "py3", "pypy3")),
    "cpp": frozenset(("cpp", "c++", "cc", "cxx", "c++17", "c++20", "cpp17", "cpp20")),
}
_OPENING = re.compile(r"(?:.*<answer>)?\s{0,3}(?P<fence>`{3,}|~{3,})[ \t]*(?P<label>[^\s`{,:]*)[^`]*")
_CLOSING = re.compile(r"\s{0,3}(?P<fence>`{3,}|~{3,})\s*(?:</answer>.*)?")


def last_block(text: str, language: str = "python") -> str | None:
    """The last closed fenced block of ``language`` after the last ``</think>``, or None.

    A block without a label counts where no block has this language's. Text whose thought never closes has no program.
    """
    _, closed, answer = text.rpartition("</think>")
    if not closed and "<think>" in answer:
        return None
    labels = _LABELS.get(language, frozenset((language,)))
    found: dict[bool, str] = {}
    for label, body in _blocks(answer.splitlines()):
        if label in labels or not label:
            found[bool(label)] = body
    return found.get(True, found.get(False))


def _blocks(lines: list[str]) -> list[tuple[str, str]]:
    """(label in lower case, body) of every closed block, in order."""
    blocks: list[tuple[str, str]] = []
    fence, label, start = "", "", 0
    for number, line in enumerate(lines):
        if not fence:
            if opening := _OPENING.fullmatch(line):
                fence, label, start = opening["fence"], opening["label"].lower(), number + 1
        elif (closing := _CLOSING.fullmatch(line)) and closing["fence"].startswith(fence):
            blocks.append((label, "\n".join(lines[start:number]) + "\n"))
            fence = ""
    return blocks

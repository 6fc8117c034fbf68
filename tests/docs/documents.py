"""What stands in the project's pages: code blocks, commands, links and keys."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    path
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
    if path.is_file()
]


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and where it stands."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    """The fenced blocks of these languages, over all pages."""
    return [block for page in PAGES for block in _blocks(page) if block.language in languages]


def _blocks(page: Path) -> Iterator[Block]:
    language, start, lines = "", 0, list[str]()
    inside = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = re.match(r"\s*```(\w*)", line)
        if fence and not inside:
            inside, language, start, lines = True, fence[1], number, []
        elif fence:
            inside = False
            yield Block(page.name, start, language, "\n".join(lines) + "\n")
        elif inside:
            lines.append(line)


def commands() -> list[tuple[str, list[str]]]:
    """Every command of the shell blocks, as (place, words): comments gone, continued lines joined."""
    found = []
    for block in blocks("bash", "sh", "shell", "console"):
        for line in block.text.replace("\\\n", " ").splitlines():
            line = re.sub(r"(^|\s)#.*", "", line.removeprefix("$ "))
            for part in re.split(r"\s&&\s|\s\|\s|;\s", line):
                words = shlex.split(part)
                if words:
                    found.append((f"{block}: {part.strip()}", words))
    return found


def links() -> list[tuple[str, str]]:
    """Relative links, as (page, target)."""
    found = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)|src=\"([^\"]+)\"", page.read_text(encoding="utf-8")):
            one = target[0] or target[1]
            if not one.startswith(("http", "mailto:")):
                found.append((page.name, one))
    return found

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

PROGRAMS = ("r1rl", "make", "python", "python3", "pip", "pytest", "accelerate", "wandb", "trackio", "tensorboard")
"""What a command in a sentence, or in a block without a language, begins with."""


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
    """Every command of the pages and of the configurations' headers, each once, as (place, words)."""
    found: dict[tuple[str, ...], str] = {}
    for place, line in [*_shell_lines(), *_inline(), *_headers()]:
        line = re.sub(r"(^|\s)#.*", "", line.removeprefix("$ "))
        for part in re.split(r"\s&&\s|\s\|\s|;\s", line):
            if words := shlex.split(part):
                found.setdefault(tuple(words), f"{place}: {' '.join(words)}")
    return [(place, list(words)) for words, place in found.items()]


def shell_blocks() -> list[Block]:
    """Fenced blocks of shell commands; one without a language is one if it begins like one."""
    plain = [block for block in blocks("") if block.text.split()[0] in PROGRAMS]
    return blocks("bash", "sh", "shell", "console") + plain


def _shell_lines() -> Iterator[tuple[str, str]]:
    for block in shell_blocks():
        yield from ((str(block), line) for line in _joined(block.text))


def _inline() -> Iterator[tuple[str, str]]:
    """Commands within sentences; the name of a command or subcommand alone is none."""
    for page in PAGES:
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            for code in re.findall(r"`([^`]+)`", line):
                words = code.split()
                a_name = len(words) < 2 or (len(words) == 2 and words[0] in ("r1rl", "accelerate"))
                if words[0] in PROGRAMS and not a_name:
                    yield f"{page.name}:{number}", code


def _headers() -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        text = "\n".join(re.findall(r"^#   (.*)", path.read_text(encoding="utf-8"), re.MULTILINE))
        where = str(path.relative_to(ROOT))
        yield from ((where, line) for line in _joined(text) if line.split()[:1] and line.split()[0] in PROGRAMS)


def _joined(text: str) -> list[str]:
    return re.sub(r"\\\n\s*", " ", text).splitlines()


def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page may name, as GitHub makes it of the heading."""
    headings = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links() -> list[tuple[str, str]]:
    """Relative links, as (page, target)."""
    found = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)|src=\"([^\"]+)\"", page.read_text(encoding="utf-8")):
            one = target[0] or target[1]
            if not one.startswith(("http", "mailto:")):
                found.append((page.name, one))
    return found

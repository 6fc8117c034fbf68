"""The conversation in the terminal: thoughts dimmed or folded to a line, answers plain."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from r1rl.chat.thought import Splitter
from r1rl.errors import ConfigError
from r1rl.tracking.console import visible
from r1rl.types import Message

HELP = "/fold hides thoughts, /think shows them and the last one again, /new clears the history, /exit or Ctrl-D leaves"


class Speaker(Protocol):
    """Generates the responses: see ``r1rl.chat.generate.TextGenerator``."""

    remembers: bool

    def reply(self, messages: list[Message]) -> Iterator[str]:
        """Yields the response in pieces."""


class Session:
    """Reads lines, answers them, and keeps the history without thoughts."""

    def __init__(
        self,
        speaker: Speaker,
        system: str | None,
        *,
        fold: bool = False,
        title: str = "",
        console: Console | None = None,
        read: Callable[[str], str] = input,
    ) -> None:
        self.speaker, self.system, self.fold, self.title = speaker, system, fold, title
        self.console = console or Console()
        self.read = read
        self.messages: list[Message] = []
        self.last_thought = ""

    def run(self) -> None:
        """Runs until the user leaves. Ctrl-C stops a response, not the session."""
        self.console.print(f"[bold]{escape(self.title)}[/]  [dim]{HELP}[/]")
        if not self.speaker.remembers:
            self.console.print("[dim]This model has no chat template: each question is answered on its own.[/]")
        self._forget()
        while True:
            try:
                line = self.read("\n> ").strip()
            except (EOFError, KeyboardInterrupt):
                self.console.print()
                return
            if line in ("/exit", "/quit"):
                return
            if line:
                COMMANDS.get(line, Session._ask_nothing)(self) if line.startswith("/") else self.ask(line)

    def ask(self, question: str) -> str:
        """Show the response to one question; returns its answer part."""
        self.messages.append({"role": "user", "content": question})
        splitter, thought, answer = Splitter(), "", ""
        reply = self.speaker.reply(self.messages)
        try:
            for text in reply:
                for piece in splitter.feed(text):
                    thought, answer = self._show(piece.text, piece.thought, thought, answer)
        except KeyboardInterrupt:
            self.console.print(Text(" [stopped]", style="dim"))
        except ConfigError as error:  # the conversation is too long; its history is kept
            self.console.print(Text(str(error), style="dim"))
            self.messages.pop()
            return ""
        finally:
            with contextlib.suppress(AttributeError):
                reply.close()  # type: ignore[attr-defined]
        for piece in splitter.end():
            thought, answer = self._show(piece.text, piece.thought, thought, answer)
        if self.fold and thought and not answer.strip():
            self.console.print(Text(f"▸ thought, {len(thought.split())} words", style="dim"))
        self.console.print()
        self.last_thought = thought
        self.messages.append({"role": "assistant", "content": answer.strip()})
        return answer.strip()

    def _show(self, text: str, is_thought: bool, thought: str, answer: str) -> tuple[str, str]:
        if is_thought:
            if not self.fold:
                self._write(text, "dim")
            return thought + text, answer
        if thought and not answer.strip():
            head = f"▸ thought, {len(thought.split())} words" if self.fold else ""
            self.console.print(Text(head, style="dim"))
            text = text.lstrip()
            answer = ""
        self._write(text, "")
        return thought, answer + text

    def _write(self, text: str, style: str) -> None:
        self.console.print(Text(visible(text), style=style), end="", soft_wrap=True)

    def _forget(self) -> None:
        self.messages = [] if self.system is None else [{"role": "system", "content": self.system}]

    def _fold(self) -> None:
        self.fold = True

    def _unfold(self) -> None:
        self.fold = False
        if self.last_thought:
            self._write(self.last_thought.strip() + "\n", "dim")

    def _ask_nothing(self) -> None:
        self.console.print(f"[dim]{HELP}[/]")


COMMANDS: dict[str, Callable[[Session], None]] = {
    "/fold": Session._fold,
    "/think": Session._unfold,
    "/new": Session._forget,
    "/help": Session._ask_nothing,
}

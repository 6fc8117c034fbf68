"""Thought and answer are told apart while the text is still coming."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from r1rl.chat.session import Session
from r1rl.chat.thought import Splitter
from r1rl.types import Message

TEXT = " <think>3+5=8 < 9</think>\n<answer>8</answer>"


def split(pieces: list[str]) -> tuple[str, str]:
    splitter, thought, answer = Splitter(), "", ""
    for shown in [piece for text in pieces for piece in splitter.feed(text)] + list(splitter.end()):
        thought, answer = (thought + shown.text, answer) if shown.thought else (thought, answer + shown.text)
    return thought, answer


@given(st.lists(st.integers(0, len(TEXT)), max_size=12))
def test_wherever_the_text_is_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(TEXT)]
    pieces = [TEXT[a:b] for a, b in pairwise(edges)]
    assert split(pieces) == ("3+5=8 < 9", " \n8")


@given(st.text(alphabet="<>/thinkaswer x", max_size=60))
def test_nothing_but_tags_is_lost(text: str) -> None:
    thought, answer = split(list(text))
    bare = text
    for tag in ("<think>", "</think>", "<answer>", "</answer>"):
        bare = bare.replace(tag, "")
    assert len(thought) + len(answer) >= len(bare)


class Parrot:
    """Answers with its pieces and remembers what it was asked."""

    remembers = True

    def __init__(self, pieces: list[str]) -> None:
        self.pieces, self.asked = pieces, list[list[Message]]()

    def reply(self, messages: list[Message]) -> Iterator[str]:
        self.asked.append([dict(message) for message in messages])
        yield from self.pieces


def talk(parrot: Parrot, *lines: str, fold: bool = False) -> str:
    console, waiting = Console(record=True, width=80, file=open("/dev/null", "w")), iter(lines)  # noqa: SIM115

    def read(prompt: str) -> str:
        try:
            return next(waiting)
        except StopIteration:
            raise EOFError from None

    Session(parrot, "be kind", fold=fold, console=console, read=read).run()
    return console.export_text()


def test_a_session_folds_thoughts_and_shows_them_again() -> None:
    parrot = Parrot([" <thi", "nk>well, eight", "</think> It is\x1b[2J 8."])
    shown = talk(parrot, "how many?", "/think", fold=True)
    assert "▸ thought, 2 words" in shown
    assert "It is\\x1b[2J 8." in shown
    assert shown.index("It is") < shown.index("well, eight")
    assert "well, eight" in talk(parrot, "how many?")


def test_a_session_remembers_answers_without_thoughts() -> None:
    parrot = Parrot(["<think>hm</think>8"])
    talk(parrot, "one?", "two?", "/new", "three?")
    assert [m["content"] for m in parrot.asked[1]] == ["be kind", "one?", "8", "two?"]
    assert [m["content"] for m in parrot.asked[2]] == ["be kind", "three?"]

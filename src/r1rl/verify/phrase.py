r"""Reads the value that a phrase states, as after "the answer is": an expression, a choice, or words."""

from __future__ import annotations

import re

from r1rl.verify.prose import MAX_PHRASE, MathRun, Prose, last_value
from r1rl.verify.tokens import Token

_FEW_WORDS = 4
"""Most words after a number that are read as its unit."""
_MOST_WORDS = 30
"""Most words of an answer in words."""
_FILLERS = re.compile(
    r"(?:[\s,:*_]|(?:therefore|thus|then|so|simply|exactly|just|clearly|hence|indeed|now|indeed|obviously|approximately|about"
    r"|roughly|around|equal to|given by|found to be|going to be|option|choice|the option|the choice|the letter)\b)*",
    re.IGNORECASE,
)
_DENIED = re.compile(r"(?:not|never|wrong|incorrect|unknown|unclear)\b", re.IGNORECASE)
_CHOICE = re.compile(
    r"\([A-Z]\)(?![\w^=+*/(-])|[A-Z](?=[.):](?:\s|$)|\s*[.)]?\s*$|\s*[,，]|\s+(?:because|since|as|which|so)\b)"
)
_CLAUSE = re.compile(
    r"\s*(?:[,;(\n，；]|$|(?:because|since|as|which|where|so|but|that|therefore|hence|thus|given|assuming|with|for|when|if"
    r"|after|while|although)\b)"
)
_REASON = re.compile(r"[,;]?\s+(?:because|since|which|so that)\b")
_EXCEPTING = frozenset(
    "except excluding without besides other all every any no than but only least most between".split()  # noqa: SIM905
)
_TRAILING = " \t\n*_`\"'“”.。,，;；:：!！"


def read_phrase(text: str) -> str | None:
    """The value that a phrase states up to the end of its sentence; None if it cannot be read whole or is denied."""
    phrase = text[_fillers(text) :][:MAX_PHRASE]
    prose = Prose(phrase)
    phrase = phrase[: _sentence_end(prose)]
    if _DENIED.match(phrase):
        return None
    choice = _CHOICE.match(phrase)
    if choice and (len(choice.group()) > 1 or not phrase.startswith("I ")):
        return choice.group()
    runs = [run for run in prose.runs if run.start < len(phrase)]
    if not runs:
        return _in_words(phrase)
    if not phrase[: runs[0].start].strip(_TRAILING + "$\\([-+="):
        return _leading(prose, phrase, runs)
    before = prose.words_between(0, runs[-1].start)
    if _EXCEPTING.intersection(before) and len(runs) == 1:
        return _in_words(phrase)
    found = last_value(phrase)
    return found[0] if found else _in_words(phrase)


def _fillers(text: str) -> int:
    match = _FILLERS.match(text)
    return match.end() if match else 0


def _leading(prose: Prose, phrase: str, runs: list[MathRun]) -> str | None:
    """The expression at the beginning: with its unit, without a clause that follows."""
    first = runs[0]
    value = prose.value(first)
    rest = phrase[first.end :]
    if value is None or _CLAUSE.match(rest) or not rest.strip(_TRAILING):
        return value
    if len(runs) > 1:
        return _in_words(phrase)
    unit = rest.strip(_TRAILING)
    few = len(unit.split()) <= _FEW_WORDS and not first.is_formula
    return f"{value} {unit}" if few and "\n" not in unit else value


def _sentence_end(prose: Prose) -> int:
    """Where the first sentence or line ends."""
    for token in prose.tokens:
        if token.kind == "newline" or (token.kind == "stop" and _ends(prose.text, token)):
            return token.start
    return len(prose.text)


def _ends(text: str, stop: Token) -> bool:
    after = text[stop.end : stop.end + 1]
    return not after or after.isspace() or stop.text in "。！？．" or after in "\"'”*)"


def _in_words(phrase: str) -> str | None:
    """An answer in words, without the punctuation around it."""
    words = _REASON.split(phrase)[0].strip(_TRAILING)
    return words if words and len(words.split()) <= _MOST_WORDS else None

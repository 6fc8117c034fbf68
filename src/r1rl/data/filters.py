"""The filters of rejection sampling: text rules, repetition, duplicates, contamination.

Every function is pure and looks at a single text; none judges whether an answer is right.

Texts are counted in words. Chinese, Japanese, Thai and other scripts put no spaces between words: there every
character, with the marks on it, is a token of its own, and two of them count as one word. A text may mix both.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence

import regex

from r1rl.config.stages import FilterConfig, LanguageFilterConfig

Share = Callable[[str, str], float | None]
"""``(text, language) -> share`` of the words of the text's thought that are in the language, 0 to 1; None without
words."""

_FENCE = re.compile(r"^[ \t]*(```|~~~)", re.MULTILINE)
_PARAGRAPH = re.compile(r"\n\s*\n")
_SCRIPTS = "Hani Hira Kana Bopo Yiii Thai Laoo Khmr Mymr Tale Talu Lana Tavt Java Bali"
_UNSPACED = "[[\\p{L}\\p{Nl}]&&[" + "".join(f"\\p{{scx={script}}}" for script in _SCRIPTS.split()) + "]]"
"""A letter of a script that is written without spaces between words."""
_CHARACTER = regex.compile(rf"(?V1){_UNSPACED}\p{{M}}*")
_TOKEN = regex.compile(
    rf"(?V1){_UNSPACED}\p{{M}}*|[[\p{{L}}\p{{N}}]--{_UNSPACED}][[\p{{L}}\p{{N}}\p{{M}}]--{_UNSPACED}]*"
    r"|[-+*/=<>^×÷−]"
)
_CJK_PUNCTUATION = regex.compile(r"[\u3000-\u303f\uff00-\uffef]+")
_SIGN = re.compile(r"[-+*/=^×÷−]")
_REPEATED = 8
"""Length in words of the n-grams that count as repetition."""


def failed_rule(text: str, finish: str, tokens: int, rules: FilterConfig, share: Share) -> str | None:
    """Name of the first rule that a sample breaks, or None.

    Args:
        text: the whole response, including the template's prefill.
        finish: why sampling ended: ``stop``, ``length`` or ``abort``.
        tokens: length of the completion.
        share: measures the language of a thought.
    """
    return next(_broken_rules(text, finish, tokens, rules, share), None)


def _broken_rules(text: str, finish: str, tokens: int, rules: FilterConfig, share: Share) -> Iterator[str]:
    if rules.truncated and finish != "stop":
        yield "truncated"
    if rules.thought and not has_thought(text):
        yield "thought"
    if tokens < rules.min_tokens:
        yield "too_short"
    if rules.language is not None and not is_one_language(text, rules.language, share):
        yield "language"
    if rules.max_paragraph_words is not None and longest_paragraph(text) > rules.max_paragraph_words:
        yield "paragraph"
    if rules.code_blocks and has_code_block(text):
        yield "code"
    if rules.max_repetition is not None and repetition(text) > rules.max_repetition:
        yield "repetition"


def has_thought(text: str) -> bool:
    """Whether there is exactly one ``<think>…</think>``, at the beginning, with text inside and text after it."""
    if text.count("<think>") != 1 or text.count("</think>") != 1:
        return False
    before, _, rest = text.partition("<think>")
    thought, closed, summary = rest.partition("</think>")
    return bool(closed) and not before.strip() and bool(thought.strip()) and bool(summary.strip())


def is_one_language(text: str, rule: LanguageFilterConfig, share: Share) -> bool:
    """Whether enough words are in the target language, or in one of the allowed ones; a thought without words
    passes."""
    shares = [share(text, target) for target in ([rule.target] if rule.target else rule.among)]
    return any(each is None or each >= rule.min_share for each in shares)


def longest_paragraph(text: str) -> int:
    """Number of words in the longest paragraph, including punctuation; empty lines separate paragraphs."""
    return max(map(_length, _PARAGRAPH.split(text)))


def _length(paragraph: str) -> int:
    rest: str
    characters: int
    rest, characters = _CHARACTER.subn(" ", paragraph)
    return len(_CJK_PUNCTUATION.sub(" ", rest).split() if characters else rest.split()) + characters // 2


def has_code_block(text: str) -> bool:
    """Whether a line opens a fenced code block."""
    return _FENCE.search(text) is not None


def repetition(text: str) -> float:
    """Share of the 8-grams of words that occur earlier in the same text, 0 to 1."""
    grams = list(ngrams(words(text), _REPEATED))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def words(text: str) -> list[str]:
    """Lower-case words, numbers, arithmetic signs, characters of unspaced scripts; no punctuation or whitespace.

    Compatibility forms are unified (NFKC): a full-width ``３`` becomes ``3``.
    """
    tokens: list[str] = _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())
    return tokens


def ngrams(tokens: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """From each token, the shortest run that makes n words (a character of an unspaced script is half a word)."""
    halves = [1 if _CHARACTER.match(token) else 2 for token in tokens]
    end = length = 0
    for start in range(len(tokens)):
        while length < 2 * n:
            if end == len(tokens):
                return
            length += halves[end]
            end += 1
        yield tuple(tokens[start:end])
        length -= halves[start]


def duplicate_key(text: str) -> str:
    """A key for finding duplicates: ignores case, whitespace and equivalent encodings."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


class Contamination:
    """Finds evaluation problems inside other texts by shared n-grams of words (paper: n = 10).

    A problem shorter than n must occur as a whole, and not next to an arithmetic sign, where it is part of another sum.
    Paraphrases are not found.
    """

    def __init__(self, evaluated: Iterable[str], n: int) -> None:
        self.n = n
        self._grams: set[tuple[str, ...]] = set()
        self._short: dict[int, set[tuple[str, ...]]] = {}
        for text in evaluated:
            tokens = words(text)
            grams = set(ngrams(tokens, n))
            self._grams |= grams
            if tokens and not grams:
                self._short.setdefault(len(tokens), set()).add(tuple(tokens))

    def found_in(self, text: str) -> bool:
        """Whether a text contains an n-gram of an evaluation problem, or a whole shorter one."""
        tokens = words(text)
        if any(gram in self._grams for gram in ngrams(tokens, self.n)):
            return True
        padded = ["", *tokens, ""]
        return any(
            tuple(padded[start : start + size]) in there
            and not _SIGN.match(padded[start - 1])
            and not _SIGN.match(padded[start + size])
            for size, there in self._short.items()
            for start in range(1, len(padded) - size)
        )

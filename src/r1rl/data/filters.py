"""What rejection sampling leaves out: rules on the text of a sample, repetition, doubles, contamination.

Every function is pure and says of one text whether it passes; none judges whether an answer is right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from r1rl.config.sample import FilterConfig, LanguageFilterConfig

Share = Callable[[str, str], float]
"""Words of a text's thought in a language over all its words, 0 to 1."""

_FENCE = re.compile(r"^[ \t]*(```|~~~)", re.MULTILINE)
_PARAGRAPH = re.compile(r"\n\s*\n")
_TOKEN = re.compile(r"[^\W_]+|[-+*/=<>^×÷−]")
_SIGN = re.compile(r"[-+*/=^×÷−]")
_REPEATED = 8
"""Length in words of the n-grams that count as repetition."""


def failed_rule(text: str, finish: str, tokens: int, rules: FilterConfig, share: Share) -> str | None:
    """Name of the first rule that a sample breaks, or None.

    Args:
        text: the whole response, with what the template pre-filled.
        finish: why sampling ended: ``stop``, ``length`` or ``abort``.
        tokens: its length.
        share: measures the language of a thought.
    """
    checks: tuple[tuple[str, Callable[[], bool]], ...] = (
        ("truncated", lambda: rules.truncated and finish != "stop"),
        ("thought", lambda: rules.thought and not has_thought(text)),
        ("too_short", lambda: tokens < rules.min_tokens),
        ("language", lambda: rules.language is not None and not is_one_language(text, rules.language, share)),
        ("paragraph", lambda: longest_paragraph(text) > (rules.max_paragraph_words or float("inf"))),
        ("code", lambda: rules.code_blocks and has_code_block(text)),
        ("repetition", lambda: rules.max_repetition is not None and repetition(text) > rules.max_repetition),
    )
    return next((name for name, breaks in checks if breaks()), None)


def has_thought(text: str) -> bool:
    """Exactly one ``<think>…</think>``, in this order, with something in it and something after it."""
    if text.count("<think>") != 1 or text.count("</think>") != 1:
        return False
    before, _, rest = text.partition("<think>")
    thought, closed, summary = rest.partition("</think>")
    return bool(closed) and not before.strip() and bool(thought.strip()) and bool(summary.strip())


def is_one_language(text: str, rule: LanguageFilterConfig, share: Share) -> bool:
    """Whether enough words are in the target language, or in one of those allowed; a text without words passes."""
    targets = [rule.target] if rule.target else rule.among
    return not any(word.isalpha() for word in words(text)) or any(share(text, t) >= rule.min_share for t in targets)


def longest_paragraph(text: str) -> int:
    """Words of the longest paragraph; paragraphs are set apart by an empty line."""
    return max(len(paragraph.split()) for paragraph in _PARAGRAPH.split(text))


def has_code_block(text: str) -> bool:
    """Whether a line opens a fenced block."""
    return _FENCE.search(text) is not None


def repetition(text: str) -> float:
    """Share of the 8-grams of words that came before in the same text, 0 to 1."""
    grams = list(ngrams(words(text), _REPEATED))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def words(text: str) -> list[str]:
    """Lower-case words, numbers and arithmetic signs; punctuation and blanks aside."""
    return _TOKEN.findall(text.casefold())


def ngrams(tokens: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """Every n words in a row."""
    return zip(*(tokens[start:] for start in range(n)), strict=False)


def normalized(text: str) -> str:
    """For finding doubles: case and blanks aside."""
    return " ".join(text.casefold().split())


class Contamination:
    """Finds evaluation problems inside other texts by shared n-grams of words (paper: n = 10).

    A problem shorter than n counts where all of it stands in the text, unless a sign right before or after makes it
    a part of another sum. Neither finds a paraphrase.
    """

    def __init__(self, evaluated: Iterable[str], n: int) -> None:
        self.n = n
        self._grams: set[tuple[str, ...]] = set()
        self._short: dict[int, set[tuple[str, ...]]] = {}
        for text in evaluated:
            tokens = words(text)
            if len(tokens) >= n:
                self._grams.update(ngrams(tokens, n))
            elif tokens:
                self._short.setdefault(len(tokens), set()).add(tuple(tokens))

    def found_in(self, text: str) -> bool:
        """Whether a text holds a piece of an evaluation problem."""
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

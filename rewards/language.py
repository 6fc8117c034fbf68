"""Language consistency (DeepSeek-R1, arXiv 2501.12948, section 2.3.2): share of the thought in the target language."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from r1rl_rewards.texts import texts_of, thought_of

_WORD = re.compile(r"[^\W\d_]+")


def language(
    completions: list[Any], prefill: list[str] | None = None, *, target: str = "en", **kwargs: Any
) -> list[float]:
    """Words of the chain of thought in the target language over all its words, 0 to 1."""
    return [_share(thought_of(text), target) for text in texts_of(completions, prefill)]


def _share(text: str, target: str) -> float:
    words = _WORD.findall(text)
    latin = sum(unicodedata.name(word[0], "").startswith("LATIN") for word in words)
    return latin / len(words) if words else 0.0

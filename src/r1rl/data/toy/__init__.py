"""Generated problems and corpora, small enough to learn on a CPU in minutes."""

from __future__ import annotations

from collections.abc import Callable

from r1rl.data.toy import arithmetic, bilingual, programs

Document = tuple[str, str]
"""A prompt and its continuation; both are learned, as in any pre-training."""

CORPORA: dict[str, Callable[..., Document]] = {
    "arithmetic": arithmetic.document,
    "bilingual": bilingual.document,
    "programs": programs.document,
}
"""Generators by the name in ``pretrain.corpus``; each writes one document, given a ``random.Random`` and
``pretrain.corpus_args``."""

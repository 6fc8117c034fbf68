"""Generated problems and corpora, small enough to learn on a CPU in minutes."""

from __future__ import annotations

from collections.abc import Callable

from r1rl.data.toy import arithmetic, bilingual

Document = tuple[str, str]
"""A prompt and its continuation; what is learned is both, as in any pre-training."""

CORPORA: dict[str, Callable[..., Document]] = {
    "arithmetic": arithmetic.document,
    "bilingual": bilingual.document,
}
"""Writers of one document each, by the name that ``pretrain.corpus`` gives: functions of a ``random.Random`` and of
``pretrain.corpus_args``."""

"""Is the final answer right? 1 or 0 by rule, as in DeepSeek-R1 (arXiv 2501.12948, section 2.2.2)."""

from __future__ import annotations

from typing import Any

from r1rl.verify import equivalent, extract_answer
from r1rl_rewards.texts import texts_of


def accuracy(
    completions: list[Any],
    answer: list[Any] | None = None,
    solution: list[Any] | None = None,
    prefill: list[str] | None = None,
    **kwargs: Any,
) -> list[float | None]:
    r"""1 where the extracted answer equals the gold one, else 0; None where a row has no gold answer.

    ``answer`` is the gold column (``solution`` serves datasets made for TRL); a list is several accepted forms. A gold
    that is a whole worked solution is reduced to its ``\boxed{…}`` or ``#### …``.
    """
    golds = answer if answer is not None else solution
    if golds is None:
        raise ValueError("accuracy needs a column `answer` (or `solution`) with the gold answers")
    return [_grade(gold, text) for gold, text in zip(golds, texts_of(completions, prefill), strict=True)]


def _grade(gold: Any, text: str) -> float | None:
    forms = [_gold_form(form) for form in (gold if isinstance(gold, list | tuple) else [gold]) if form is not None]
    if not forms:
        return None
    answer = extract_answer(text)
    return float(answer is not None and bool(equivalent(forms, answer)))


def _gold_form(gold: Any) -> str:
    text = str(gold)
    worked = "\\boxed" in text or "####" in text
    return (extract_answer(text) if worked else None) or text

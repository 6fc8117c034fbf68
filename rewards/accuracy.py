"""The accuracy reward: 1 or 0 by rule, as in DeepSeek-R1 (arXiv 2501.12948, section 2.2.2)."""

from __future__ import annotations

from typing import Any

from r1rl.verify import equivalent_many, extract_answer
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
    forms = [_forms(gold) for gold in golds]
    answers = [extract_answer(text) for text in texts_of(completions, prefill)]
    asked = [index for index, answer in enumerate(answers) if forms[index] and answer is not None]
    verdicts = equivalent_many([(forms[index], answers[index] or "") for index in asked])
    right = {index for index, verdict in zip(asked, verdicts, strict=True) if verdict}
    return [float(index in right) if forms[index] else None for index in range(len(answers))]


def _forms(gold: Any) -> list[str]:
    return [_gold_form(form) for form in (gold if isinstance(gold, list | tuple) else [gold]) if _is_gold(form)]


def _is_gold(form: Any) -> bool:
    """Whether there is a gold answer: missing values in tables are NaN."""
    return form is not None and form == form and str(form).strip() != ""


def _gold_form(gold: Any) -> str:
    text = str(gold)
    worked = "\\boxed" in text or "####" in text
    return (extract_answer(text) if worked else None) or text

"""The accuracy reward: 1 or 0 by rule, as in DeepSeek-R1 (arXiv 2501.12948, section 2.2.2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from r1rl.verify import PLACES, RULES, AnswerPlace, equivalent_many, find_answer, gold_answer
from r1rl_rewards.texts import texts_of


def accuracy(
    completions: list[Any],
    answer: list[Any] | None = None,
    solution: list[Any] | None = None,
    prefill: list[str] | None = None,
    log_metric: Callable[[str, float], None] | None = None,
    *,
    require: AnswerPlace = "any",
    **kwargs: Any,
) -> list[float | None]:
    r"""1 where the extracted answer equals the gold one, else 0; None where a row has no gold answer.

    ``answer`` is the gold column (``solution`` serves datasets made for TRL); a list is several accepted forms. A gold
    that is a whole worked solution is reduced to its ``\boxed{…}`` or ``#### …``. ``require`` is where the answer must
    stand: in a ``box``, in an ``answer_tag``, or ``any`` place that ``r1rl.verify.extract`` reads. The share of
    completions whose answer each rule found is logged as ``verify/found_RULE``, the rest as ``verify/found_none``.
    """
    golds = answer if answer is not None else solution
    if golds is None:
        raise ValueError("accuracy needs a column `answer` (or `solution`) with the gold answers")
    if require not in PLACES:
        raise ValueError(f"require is {require!r}; choose one of {', '.join(PLACES)}")
    forms = [_forms(gold) for gold in golds]
    found = [find_answer(text, require) for text in texts_of(completions, prefill)]
    if log_metric is not None:
        rules = Counter(each.rule if each else "none" for each in found)
        for rule in (*RULES, "none"):
            log_metric(f"verify/found_{rule}", rules[rule] / len(found))
    asked = [(index, each.text) for index, each in enumerate(found) if forms[index] and each is not None]
    verdicts = equivalent_many([(forms[index], text) for index, text in asked])
    right = {index for (index, _), verdict in zip(asked, verdicts, strict=True) if verdict}
    return [float(index in right) if forms[index] else None for index in range(len(found))]


def _forms(gold: Any) -> list[str]:
    forms = gold if isinstance(gold, list | tuple) else [gold]
    return [gold_answer(str(form)) for form in forms if _is_gold(form)]


def _is_gold(form: Any) -> bool:
    """Whether there is a gold answer: missing values in tables are NaN."""
    return form is not None and form == form and str(form).strip() != ""

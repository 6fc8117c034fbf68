"""The one question of this package: is this answer the gold answer?"""

from __future__ import annotations

from collections.abc import Sequence

from r1rl.verify.exact import compare_exactly
from r1rl.verify.text import Refused, clean
from r1rl.verify.verdict import Outcome, Verdict


def equivalent(gold: str | Sequence[str], answer: str) -> Verdict:
    """Compare an answer with the gold answer, or with each of its forms: one match is enough."""
    forms = [gold] if isinstance(gold, str) else list(gold)
    try:
        answer = clean(answer)
    except Refused as refusal:
        return Verdict(Outcome.UNPARSABLE, str(refusal))
    verdict = Verdict(Outcome.UNPARSABLE, "gold")
    for form in forms:
        try:
            form = clean(form)
        except Refused:
            continue
        decided = compare_exactly(form, answer)
        verdict = decided if decided is not None else Verdict(Outcome.WRONG, "text")
        if verdict:
            return verdict
    return verdict

"""Is this answer right: extraction from a completion and comparison with the gold answer, safe on hostile text."""

from r1rl.verify.checker import Checker, equivalent, equivalent_many
from r1rl.verify.countdown import check_countdown
from r1rl.verify.extract import PLACES, RULES, AnswerPlace, FoundAnswer, Rule, extract_answer, find_answer, gold_answer
from r1rl.verify.sandbox import Limits
from r1rl.verify.verdict import Outcome, Verdict

__all__ = [
    "PLACES",
    "RULES",
    "AnswerPlace",
    "Checker",
    "FoundAnswer",
    "Limits",
    "Outcome",
    "Rule",
    "Verdict",
    "check_countdown",
    "equivalent",
    "equivalent_many",
    "extract_answer",
    "find_answer",
    "gold_answer",
]

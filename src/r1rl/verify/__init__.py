"""Is this answer right: extraction from a completion and comparison with the gold answer."""

from r1rl.verify.equivalence import equivalent
from r1rl.verify.extract import extract_answer
from r1rl.verify.verdict import Outcome, Verdict

__all__ = ["Outcome", "Verdict", "equivalent", "extract_answer"]

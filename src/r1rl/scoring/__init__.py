"""Runs reward functions: finds them by name, calls them in the background, measures them."""

from r1rl.scoring.scorer import Scorer

__all__ = ["Scorer"]

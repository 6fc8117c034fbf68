"""Runs reward functions: finds them by name, calls them in worker processes or in the background, measures them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from r1rl.scoring.scorer import Scorer

__all__ = ["Scorer"]


def __getattr__(name: str) -> Any:
    """``Scorer`` on first use: worker processes import this package without numpy."""
    if name != "Scorer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from r1rl.scoring.scorer import Scorer

    return Scorer

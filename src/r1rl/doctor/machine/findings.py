"""What a check of the machine measures, and whether that is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

Shown = float | int | str


class NotTried(Exception):
    """Raised by a check that this machine cannot try; says why, and what to install or attach."""


@dataclass(slots=True)
class Findings:
    """Filled by one check."""

    figures: dict[str, Shown] = field(default_factory=dict)
    """By name, with the unit in the name."""
    wrong: list[str] = field(default_factory=list)
    """What does not hold; empty if the check passed."""
    summary: str = ""
    """The figures that matter most, in one line for the table."""

    def note(self, name: str, value: Shown) -> None:
        """A figure that is only reported."""
        self.figures[name] = value

    def at_most(self, name: str, value: float, bound: float) -> None:
        """A figure that is wrong above ``bound``, or not a number."""
        self.figures[name] = value
        if not value <= bound:
            self.wrong.append(f"{name}: {value:.3g}, at most {bound:.3g} is right")

    def at_least(self, name: str, value: float, bound: float) -> None:
        """A figure that is wrong below ``bound``, or not a number."""
        self.figures[name] = value
        if not value >= bound:
            self.wrong.append(f"{name}: {value:.3g}, at least {bound:.3g} is right")

    def require(self, holds: bool, otherwise: str) -> None:
        """``otherwise`` says what is wrong if it does not hold."""
        if not holds:
            self.wrong.append(otherwise)


CheckFunction = Callable[[Findings], None]
"""Fills the findings. Raises NotTried; any other exception is a failed check."""

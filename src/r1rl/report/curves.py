"""Metrics of a stage, downsampled to what a screen can show."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from r1rl.records import Row
from r1rl.report.read import Stage, is_number

MOST_STEPS = 1000
"""Steps shown one by one; a longer stage is averaged over stretches of steps."""
STRETCHES = 500
"""Stretches of a longer stage."""


def curves(stage: Stage, runs: int = 1) -> dict[str, Any]:
    """``steps`` and, for each metric, one value (or null) per step, or per stretch of steps of a long stage: its mean.

    ``low`` and ``high`` hold the extremes of each stretch, so that a spike stays visible; they are left out where a
    stretch is one step. The more runs a page compares, the longer the stretches.
    """
    most, stretches = (MOST_STEPS, STRETCHES) if runs <= 4 else (max(100, 4 * STRETCHES // runs),) * 2
    parts = _stretches(stage.metrics, stretches if len(stage.metrics) > most else len(stage.metrics))
    shown: dict[str, Any] = {"steps": [part[-1]["step"] for part in parts], "values": {}, "low": {}, "high": {}}
    for name in stage.names():
        values = [[float(row[name]) for row in part if is_number(row.get(name))] for part in parts]
        if not any(values):
            continue
        shown["values"][name] = [short(sum(v) / len(v)) if v else None for v in values]
        if len(parts) < len(stage.metrics):
            shown["low"][name] = [short(min(v)) if v else None for v in values]
            shown["high"][name] = [short(max(v)) if v else None for v in values]
    return shown


def short(value: float) -> float | int:
    """Five significant digits, more than a screen resolves."""
    rounded = float(f"{value:.5g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def _stretches(rows: Sequence[Row], count: int) -> list[Sequence[Row]]:
    edges = [round(i * len(rows) / count) for i in range(count + 1)] if count else [0]
    return [rows[start:end] for start, end in pairwise(edges)]

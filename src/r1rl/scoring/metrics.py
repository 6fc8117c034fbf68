"""Metrics of scored groups, and of the calls that scored them, over all processes."""

from __future__ import annotations

import math
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from r1rl.types import ScoredGroup


@dataclass(slots=True)
class Measured:
    """The measurements of one process, not summarised, so that those of several processes can be joined."""

    seconds: dict[str, list[float]] = field(default_factory=partial(defaultdict, list))
    """Duration of each call, by reward function."""
    counts: dict[str, Counter[str]] = field(default_factory=partial(defaultdict, Counter))
    """By reward function: lost calls and checks by kind, ``completions`` of its calls, and how many of them ``lost``
    their call or check."""
    logged: dict[str, list[float]] = field(default_factory=partial(defaultdict, list))
    """Values passed to ``log_metric``, by name."""
    checks: Counter[str] = field(default_factory=Counter)
    """Answer checks, by outcome."""


class ScoringMetrics:
    """Thread-safe sums behind ``Scorer.drain``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._measured = Measured()

    def add_call(self, name: str, seconds: float, counts: Mapping[str, int], completions: int, lost: int) -> None:
        """Record one call of a function: its duration, the losses by kind, its completions and how many were lost."""
        with self._lock:
            self._measured.seconds[name].append(seconds)
            self._measured.counts[name].update({**counts, "completions": completions, "lost": lost})

    def log(self, name: str, value: float) -> None:
        """Record a scalar that a reward function passed to ``log_metric``."""
        with self._lock:
            self._measured.logged[name].append(float(value))

    def drain(self) -> Measured:
        """Everything recorded since the last call."""
        with self._lock:
            measured, self._measured = self._measured, Measured()
        return Measured(dict(measured.seconds), dict(measured.counts), dict(measured.logged))


def call_metrics(measured: Sequence[Measured]) -> dict[str, float]:
    """Metrics by name, over all processes: counts are sums, times are percentiles of all calls in milliseconds, values
    that reward functions logged are means."""
    metrics: dict[str, float] = {}
    for name in _names(m.seconds for m in measured):
        milliseconds = 1000 * np.concatenate([m.seconds.get(name, []) for m in measured])
        counts = sum((m.counts.get(name, Counter()) for m in measured), Counter[str]())
        metrics |= {
            f"reward/{name}/timeouts": float(counts["timeouts"]),
            f"reward/{name}/errors": float(counts["errors"]),
            f"reward/{name}/crashes": float(counts["crashes"]),
            f"reward/{name}/lost": counts["lost"] / max(1, counts["completions"]),
            f"reward/{name}/p50_ms": float(np.percentile(milliseconds, 50)),
            f"reward/{name}/p99_ms": float(np.percentile(milliseconds, 99)),
        }
    for name in _names(m.logged for m in measured):
        finite = [value for m in measured for value in m.logged.get(name, ()) if math.isfinite(value)]
        metrics[name] = float(np.mean(finite)) if finite else math.nan
    checks = sum((m.checks for m in measured), Counter[str]())
    return metrics | {f"verify/{outcome}": float(count) for outcome, count in checks.items()}


def reward_metrics(groups: Sequence[ScoredGroup]) -> dict[str, float]:
    """Metrics of these groups' rewards by name. Completions without a reward are left out of the means."""
    total = np.concatenate([g.rewards for g in groups]) if groups else np.zeros(0)
    metrics = _of_values("reward", total)
    if len(total):
        metrics["reward/unscored"] = float(np.isnan(total).mean())
    for name in _names(g.by_reward for g in groups):
        values = np.concatenate([g.by_reward[name] for g in groups if name in g.by_reward])
        metrics |= _of_values(f"reward/{name}", values)
        metrics[f"reward/{name}/none"] = float(np.isnan(values).mean())
    return metrics


def _of_values(prefix: str, values: np.ndarray) -> dict[str, float]:
    scored = values[~np.isnan(values)]
    return {f"{prefix}/mean": float(scored.mean()), f"{prefix}/std": float(scored.std())} if len(scored) else {}


def _names(tables: Iterable[Mapping[str, object]]) -> list[str]:
    """The keys of all mappings, each once, in order."""
    return list(dict.fromkeys(name for table in tables for name in table))

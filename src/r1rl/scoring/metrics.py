"""What scoring has measured since the last time it was asked."""

from __future__ import annotations

import math
import threading
from collections import Counter, defaultdict
from collections.abc import Mapping

import numpy as np


class ScoringMetrics:
    """Thread-safe sums behind ``Scorer.drain_metrics``."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self._values: dict[str, list[np.ndarray]] = defaultdict(list)
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._logged: dict[str, list[float]] = defaultdict(list)
        self._unscored = [0, 0]

    def add_call(self, name: str, values: np.ndarray, seconds: float, counts: Mapping[str, int]) -> None:
        """One call of a function: its values ([G], NaN for None), how long it took, and what its checks lost."""
        with self._lock:
            self._values[name].append(values)
            self._seconds[name].append(seconds)
            self._counts[name].update(counts)

    def add_group(self, rewards: np.ndarray) -> None:
        """One group's total rewards ([G], NaN for an unscored completion)."""
        with self._lock:
            self._unscored[0] += int(np.isnan(rewards).sum())
            self._unscored[1] += len(rewards)

    def log(self, name: str, value: float) -> None:
        """A scalar that a reward function gave to ``log_metric``."""
        with self._lock:
            self._logged[name].append(float(value))

    def drain(self) -> dict[str, float]:
        """Everything since the last call, by metric name; times in milliseconds a call."""
        with self._lock:
            values, seconds, counts, logged = self._values, self._seconds, self._counts, self._logged
            unscored, total = self._unscored
            self._reset()
        metrics: dict[str, float] = {}
        for name in self._names:
            if seconds[name]:
                metrics |= _of_function(f"reward/{name}", np.concatenate(values[name]), seconds[name], counts[name])
        if total:
            metrics["reward/unscored"] = unscored / total
        for name, given in logged.items():
            finite = [value for value in given if math.isfinite(value)]
            metrics[name] = float(np.mean(finite)) if finite else math.nan
        return metrics


def _of_function(prefix: str, values: np.ndarray, seconds: list[float], counts: Mapping[str, int]) -> dict[str, float]:
    scored = values[~np.isnan(values)]
    milliseconds = 1000 * np.asarray(seconds)
    metrics = {
        f"{prefix}/none": 1 - len(scored) / len(values) if len(values) else 0.0,
        f"{prefix}/timeouts": float(counts.get("timeouts", 0)),
        f"{prefix}/errors": float(counts.get("errors", 0)),
        f"{prefix}/p50_ms": float(np.percentile(milliseconds, 50)),
        f"{prefix}/p99_ms": float(np.percentile(milliseconds, 99)),
    }
    if len(scored):
        metrics |= {f"{prefix}/mean": float(scored.mean()), f"{prefix}/std": float(scored.std())}
    return metrics

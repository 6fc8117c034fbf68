"""Scores finished groups with the configured reward functions, while other groups are still being generated."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, Self

import numpy as np

from r1rl.config.rewards import RewardConfig, ScoringConfig
from r1rl.errors import RewardError
from r1rl.scoring.background import Background, Call, Overdue
from r1rl.scoring.function import RewardFunction, TrainerState
from r1rl.scoring.metrics import Measured, ScoringMetrics, call_metrics
from r1rl.types import Group, ScoredGroup
from r1rl.verify import Checker, Limits

_MAX_WAITING = 10_000
"""Submitted groups that are remembered until they are asked for; the oldest is forgotten first."""


class _Pending:
    """A group with the calls that score it."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.calls: dict[str, Call] = {}
        self.extras: dict[str, list[Any]] = {}


class Scorer(AbstractContextManager["Scorer"]):
    """The reward functions of a run, their threads and the worker processes that check answers.

    ``applies`` maps a problem's ``source`` to the names of the rewards for it; None or a missing source means all.

    Raises: RewardError for a reward that cannot be found, made or bound.
    """

    def __init__(
        self,
        rewards: Mapping[str, RewardConfig],
        scoring: ScoringConfig,
        *,
        applies: Mapping[str, list[str] | None] | None = None,
    ) -> None:
        self._functions = [RewardFunction.from_config(name, config) for name, config in rewards.items()]
        self._applies = dict(applies or {})
        self._check_applies()
        self._limit_s = scoring.function_timeout_s
        self._metrics = ScoringMetrics()
        self._locks = {function.name: threading.Lock() for function in self._functions}
        self._waiting: OrderedDict[int, _Pending] = OrderedDict()
        self._waiting_lock = threading.Lock()
        self._background = Background(threads=max(1, min(8, len(self._functions))))
        limits = Limits(scoring.cpu_seconds, scoring.wall_seconds, scoring.memory_mb)
        self.checker = Checker(scoring.workers, limits)

    def submit(self, group: Group) -> None:
        """Start scoring a finished group in the background; returns at once, from any thread."""
        pending = self._start(group)
        with self._waiting_lock:
            self._waiting[id(group)] = pending  # pending holds the group, so its id stays its own
            if len(self._waiting) > _MAX_WAITING:
                self._waiting.popitem(last=False)

    def score(self, groups: list[Group], trainer_state: Mapping[str, Any] | None = None) -> list[ScoredGroup]:
        """The groups with their rewards, in order; whatever was not submitted is scored now.

        Raises: RewardError when a function raises, breaks its contract or runs past its time limit.
        """
        state = TrainerState(trainer_state or {})
        started = [self._take(group) or self._start(group) for group in groups]
        for pending in started:
            self._start_stateful(pending, state)
        return [self._finish(pending) for pending in started]

    def drain(self) -> Measured:
        """What this process's calls and checks measured since the last drain."""
        measured = self._metrics.drain()
        measured.checks.update(self.checker.drain_counts())
        return measured

    def drain_metrics(self) -> dict[str, float]:
        """The same by metric name (see docs/rewards.md)."""
        return call_metrics([self.drain()])

    def close(self) -> None:
        """End the threads and the worker processes."""
        self._background.close()
        self.checker.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __enter__(self) -> Self:
        return self

    def _check_applies(self) -> None:
        known = {function.name for function in self._functions}
        for source, chosen in self._applies.items():
            for name in chosen or ():
                if name not in known:
                    raise RewardError(
                        f"source {source!r} lists the reward {name!r}, which the run does not configure; "
                        f"configured: {', '.join(sorted(known)) or 'none'}"
                    )

    def _for(self, group: Group) -> list[RewardFunction]:
        chosen = self._applies.get(group.problem.source)
        return [function for function in self._functions if chosen is None or function.name in chosen]

    def _take(self, group: Group) -> _Pending | None:
        with self._waiting_lock:
            return self._waiting.pop(id(group), None)

    def _start(self, group: Group) -> _Pending:
        pending = _Pending(group)
        for function in self._for(group):
            if not function.needs_state:
                self._call(function, pending, {})
        return pending

    def _start_stateful(self, pending: _Pending, state: TrainerState) -> None:
        for function in self._for(pending.group):
            if function.needs_state:
                self._call(function, pending, {"trainer_state": state})

    def _call(self, function: RewardFunction, pending: _Pending, extras: dict[str, Any]) -> None:
        extras = {**extras, "log_extra": pending.extras.__setitem__, "log_metric": self._metrics.log}

        def run() -> np.ndarray:
            with self._locks[function.name], self._measured(function) as use:  # no function expects to meet itself
                return use(function.call(**function.arguments(pending.group, extras)), pending.group)

        async def run_async() -> np.ndarray:
            with self._measured(function) as use:
                return use(await function.call(**function.arguments(pending.group, extras)), pending.group)

        pending.calls[function.name] = (
            self._background.run_async(function.name, run_async)
            if function.is_async
            else self._background.run(function.name, run)
        )

    @contextmanager
    def _measured(self, function: RewardFunction) -> Iterator[Callable[[Any, Group], np.ndarray]]:
        """One call: its checks use this run's workers, its time and values are recorded, its errors are explained."""
        tally: Counter[str] = Counter()
        began = time.perf_counter()

        def use(returned: Any, group: Group) -> np.ndarray:
            values = function.values(returned, len(group))
            self._metrics.add_call(function.name, time.perf_counter() - began, tally)
            return values

        with self.checker.active(tally):
            try:
                yield use
            except Exception as error:
                raise function.failure(error) from error

    def _finish(self, pending: _Pending) -> ScoredGroup:
        functions = self._for(pending.group)
        by_reward = {f.name: self._result(pending.calls[f.name]) for f in functions}
        rewards = weighted_sum(by_reward, {f.name: f.weight for f in functions}, len(pending.group))
        return ScoredGroup(pending.group, rewards, by_reward, checked_extras(pending.extras, len(pending.group)))

    def _result(self, call: Call) -> np.ndarray:
        try:
            values: np.ndarray = self._background.wait(call, self._limit_s)
        except Overdue as error:
            raise RewardError(
                f"reward {str(error)!r} ran for more than {self._limit_s:g} s on one group; make it faster or raise "
                "scoring.function_timeout_s"
            ) from error
        return values


def weighted_sum(by_reward: Mapping[str, np.ndarray], weights: Mapping[str, float], count: int) -> np.ndarray:
    """[count] float64 total rewards over the functions that applied; NaN where none that has a weight did.

    As in TRL, which leaves completions out for which every function returned None; a function of weight 0, which is
    only logged, does not make a completion scored here.
    """
    total, applied = np.zeros(count), np.zeros(count, dtype=bool)
    for name, values in by_reward.items():
        if weights[name]:
            total += weights[name] * np.nan_to_num(values, nan=0.0)
            applied |= ~np.isnan(values)
    return np.where(applied, total, np.nan)


def checked_extras(extras: Mapping[str, Any], count: int) -> dict[str, list[Any]]:
    """What functions gave to ``log_extra``, one item per completion. Raises RewardError for anything else."""
    found: dict[str, list[Any]] = {}
    for name, values in extras.items():
        items = values.tolist() if hasattr(values, "tolist") else values
        if isinstance(items, str | bytes | Mapping) or not hasattr(items, "__len__") or len(items) != count:
            size = f"{len(items)} values" if hasattr(items, "__len__") else type(items).__name__
            raise RewardError(f"log_extra({name!r}) got {size} for {count} completions; give a list, one for each")
        found[name] = list(items)
    return found

"""Scores finished groups with the configured reward functions, while other groups are still being generated."""

from __future__ import annotations

import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

import numpy as np

from r1rl.config.rewards import RewardConfig, ScoringConfig
from r1rl.errors import RewardError
from r1rl.scoring.background import Background
from r1rl.scoring.function import CallResult, Lost, RewardFunction, Signature
from r1rl.scoring.metrics import Measured, ScoringMetrics, call_metrics
from r1rl.scoring.processes import Processes, in_trainer, limits_of
from r1rl.types import Group, ScoredGroup
from r1rl.verify import Checker

log = logging.getLogger(__name__)

_POLL_S = 0.2
_MAX_WAITING = 10_000
"""Largest number of submitted groups that wait for ``score``; the oldest are dropped first."""


class _Pending:
    """A submitted group and the calls that score it."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.calls: dict[str, Future[CallResult | Lost]] = {}


class Scorer(AbstractContextManager["Scorer"]):
    """The reward functions of a run, their processes and threads, and the workers that check answers.

    ``applies`` maps a problem's ``source`` to the names of the rewards for it; None or a missing source means all.

    Raises: RewardError for a reward that cannot be found, constructed or bound.
    """

    def __init__(
        self,
        rewards: Mapping[str, RewardConfig],
        scoring: ScoringConfig,
        *,
        applies: Mapping[str, list[str] | None] | None = None,
    ) -> None:
        self._scoring = scoring
        self._weights = {name: config.weight for name, config in rewards.items()}
        self._applies = dict(applies or {})
        self._check_applies()
        self._metrics = ScoringMetrics()
        self._lost_in_a_row: Counter[str] = Counter()
        self._waiting: OrderedDict[int, _Pending] = OrderedDict()
        self._waiting_lock = threading.Lock()
        self.checker = Checker(scoring.workers, limits_of(scoring))
        self._processes = Processes({n: c for n, c in rewards.items() if not in_trainer(n, c)}, scoring)
        try:
            here = {n: c for n, c in rewards.items() if n not in self._processes.signatures}
            loaded = {n: RewardFunction.load(n, c.function or n, c.args) for n, c in here.items()}
        except BaseException:
            self._processes.close()
            raise
        self._background = Background(loaded, scoring, self.checker)
        known = {name: function.signature for name, function in loaded.items()} | self._processes.signatures
        self._signatures = {name: known[name] for name in rewards}

    def submit(self, group: Group) -> None:
        """Start scoring a finished group in the background; returns at once, from any thread."""
        pending = self._start(group)
        with self._waiting_lock:
            self._waiting[id(group)] = pending  # pending holds a reference to the group, so its id is not reused
            if len(self._waiting) > _MAX_WAITING:
                self._waiting.popitem(last=False)

    def score(self, groups: list[Group], trainer_state: Mapping[str, Any] | None = None) -> list[ScoredGroup]:
        """The groups with their rewards, in order; groups that were not submitted are scored now.

        ``trainer_state`` is passed to functions that request it; without one, as outside a training run, its
        ``global_step`` is 0.

        A call whose process was lost (too slow, too much memory, ended) is counted and gives NaN for its group.
        Raises: RewardError when a function raises or breaks its contract, when ``scoring.max_lost`` of its calls are
        lost in a row, or when one that cannot be stopped runs past its time limit.
        """
        state = {"global_step": 0} if trainer_state is None else trainer_state
        started = [self._take(group) or self._start(group) for group in groups]
        for pending in started:
            self._start_stateful(pending, state)
        return [self._finish(pending) for pending in started]

    def drain(self) -> Measured:
        """Measurements of this process's calls and checks since the last drain."""
        measured = self._metrics.drain()
        measured.checks.update(self.checker.drain_counts())
        return measured

    def drain_metrics(self) -> dict[str, float]:
        """The same as metrics by name (see docs/rewards.md)."""
        return call_metrics([self.drain()])

    def host_pid(self) -> int | None:
        """Process id of the host of the reward functions' processes; None if all functions run in the trainer."""
        return self._processes.host_pid()

    def close(self) -> None:
        """End the threads and the worker processes."""
        self._background.close()
        self._processes.close()
        self.checker.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __enter__(self) -> Self:
        return self

    def _check_applies(self) -> None:
        known = self._weights
        for source, chosen in self._applies.items():
            for name in chosen or ():
                if name not in known:
                    raise RewardError(
                        f"source {source!r} lists the reward {name!r}, which the run does not configure; "
                        f"configured: {', '.join(sorted(known)) or 'none'}"
                    )

    def _for(self, group: Group) -> list[Signature]:
        chosen = self._applies.get(group.problem.source)
        return [one for name, one in self._signatures.items() if chosen is None or name in chosen]

    def _take(self, group: Group) -> _Pending | None:
        with self._waiting_lock:
            return self._waiting.pop(id(group), None)

    def _start(self, group: Group) -> _Pending:
        pending = _Pending(group)
        for signature in self._for(group):
            if not signature.needs_state:
                self._call(signature.name, pending, None)
        return pending

    def _start_stateful(self, pending: _Pending, state: Mapping[str, Any]) -> None:
        for signature in self._for(pending.group):
            if signature.needs_state:
                self._call(signature.name, pending, state)

    def _call(self, name: str, pending: _Pending, state: Mapping[str, Any] | None) -> None:
        runner: Processes | Background = self._processes if name in self._processes.signatures else self._background
        pending.calls[name] = runner.start(name, pending.group, state)

    def _finish(self, pending: _Pending) -> ScoredGroup:
        by_reward: dict[str, np.ndarray] = {}
        extras: dict[str, list[Any]] = {}
        for name in [signature.name for signature in self._for(pending.group)]:
            outcome = self._wait(name, pending.calls[name])
            by_reward[name] = self._values(name, outcome, len(pending.group))
            extras |= outcome.extras if isinstance(outcome, CallResult) else {}
        rewards = weighted_sum(by_reward, self._weights, len(pending.group))
        return ScoredGroup(pending.group, rewards, by_reward, checked_extras(extras, len(pending.group)))

    def _wait(self, name: str, call: Future[CallResult | Lost]) -> CallResult | Lost:
        """The result of a call, within its time limit, which starts when the call starts."""
        while not call.done():
            wait_for([call], timeout=_POLL_S)
            self._background.check(name, call)
        return call.result()

    def _values(self, name: str, outcome: CallResult | Lost, count: int) -> np.ndarray:
        """[count] float64, NaN where the function did not apply or the call was lost. Raises RewardError for the last
        tolerated loss in a row."""
        if isinstance(outcome, CallResult):
            self._lost_in_a_row[name] = 0
            lost = min(count, sum(outcome.tally.values()))
            self._metrics.add_call(name, outcome.seconds, outcome.tally, count, lost)
            for metric, value in outcome.logged:
                self._metrics.log(metric, value)
            return np.array([np.nan if value is None else value for value in outcome.values], dtype=np.float64)
        kind = "timeouts" if outcome.reason == "timeouts" else "crashes"
        self._metrics.add_call(name, outcome.seconds, {kind: 1}, count, lost=count)
        self._lost_in_a_row[name] += 1
        in_a_row, most = self._lost_in_a_row[name], self._scoring.max_lost
        what = f"reward {name!r} {outcome.told(self._scoring.function_timeout_s, self._scoring.function_memory_mb)}"
        if in_a_row >= most:
            raise RewardError(
                f"{what} on one group, the last of {in_a_row} lost calls in a row (scoring.max_lost); "
                "make it faster or fix it, or raise scoring.function_timeout_s or scoring.function_memory_mb"
            )
        log.warning("%s; this group lacks its values (lost call %d of at most %d in a row)", what, in_a_row, most)
        return np.full(count, np.nan)


def weighted_sum(by_reward: Mapping[str, np.ndarray], weights: Mapping[str, float], count: int) -> np.ndarray:
    """[count] float64 weighted sums over the functions that applied; NaN where no function with a nonzero weight did.

    As in TRL, which leaves out completions for which every function returned None; but a function of weight 0, which is
    only logged, does not count as a score here.
    """
    total, applied = np.zeros(count), np.zeros(count, dtype=bool)
    for name, values in by_reward.items():
        if weights[name]:
            total += weights[name] * np.nan_to_num(values, nan=0.0)
            applied |= ~np.isnan(values)
    return np.where(applied, total, np.nan)


def checked_extras(extras: Mapping[str, Any], count: int) -> dict[str, list[Any]]:
    """Columns that functions passed to ``log_extra``, one item per completion. Raises RewardError for other lengths."""
    found: dict[str, list[Any]] = {}
    for name, values in extras.items():
        items = values.tolist() if hasattr(values, "tolist") else values
        if isinstance(items, str | bytes | Mapping) or not hasattr(items, "__len__") or len(items) != count:
            size = f"{len(items)} values" if hasattr(items, "__len__") else type(items).__name__
            raise RewardError(f"log_extra({name!r}) got {size} for {count} completions; pass a list with one item each")
        found[name] = list(items)
    return found

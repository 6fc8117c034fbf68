"""The answer checks of a run: the exact path in-process, everything else in a sandbox, with a cache of verdicts."""

from __future__ import annotations

import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Self

from r1rl.verify.exact import compare_exactly
from r1rl.verify.sandbox import CallFailed, CallLost, Limits, Sandbox
from r1rl.verify.text import Refused, clean
from r1rl.verify.verdict import Outcome, Verdict

Forms = str | Sequence[str]

_COMPARE = "r1rl.verify.symbolic:compare"
_CACHED = 100_000
_TIMED_OUT = frozenset(("cpu", "wall"))
_ACCIDENTS = frozenset(("wall", "killed", "died"))
"""Reasons for a lost check that may lie with the machine, not the answer: such verdicts are not cached."""

_active: ContextVar[Checker | None] = ContextVar("r1rl_checker", default=None)
_tally: ContextVar[Counter[str] | None] = ContextVar("r1rl_tally", default=None)


class Checker:
    """Compares answers with their gold answers; thread-safe."""

    def __init__(self, workers: int = 2, limits: Limits | None = None, cached: int = _CACHED) -> None:
        self.sandbox = Sandbox(workers, limits, preload=[_COMPARE.partition(":")[0]])
        self._cached = cached
        self._cache: OrderedDict[tuple[str, str], Verdict] = OrderedDict()
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def equivalent(self, gold: Forms, answer: str) -> Verdict:
        """The verdict on one answer."""
        return self.equivalent_many([(gold, answer)])[0]

    def equivalent_many(self, pairs: Sequence[tuple[Forms, str]]) -> list[Verdict]:
        """The verdicts on many (gold, answer) pairs, in order; those that need a worker are spread over all workers."""
        verdicts: list[Verdict] = [Verdict(Outcome.UNPARSABLE, "gold")] * len(pairs)
        open_forms: dict[int, list[str]] = {}
        cleaned: dict[int, str] = {}
        for index, (gold, answer) in enumerate(pairs):
            verdicts[index], forms, cleaned[index] = _decide_here(gold, answer)
            if forms:
                open_forms[index] = forms
        self._decide_in_workers(verdicts, open_forms, cleaned)
        self._count(verdicts)
        return verdicts

    def drain_counts(self) -> dict[str, int]:
        """Numbers of checks by outcome, by the path that decided them, and of cached verdicts, since the last call."""
        with self._lock:
            counts, self._counts = dict(self._counts), Counter()
        return counts

    @contextmanager
    def active(self, tally: Counter[str] | None = None) -> Iterator[None]:
        """Within the block ``equivalent`` uses this checker and adds ``timeouts`` and ``errors`` to ``tally``."""
        checker_token, tally_token = _active.set(self), _tally.set(tally)
        try:
            yield
        finally:
            _active.reset(checker_token)
            _tally.reset(tally_token)

    def close(self) -> None:
        """End the worker processes."""
        self.sandbox.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _decide_in_workers(
        self, verdicts: list[Verdict], open_forms: dict[int, list[str]], cleaned: dict[int, str]
    ) -> None:
        """Form by form, since most gold answers have one: check the pairs that are not cached, each once."""
        while open_forms:
            wanted = {index: (forms.pop(0), cleaned[index]) for index, forms in open_forms.items()}
            known = self._look_up(list(dict.fromkeys(wanted.values())))
            for index, pair in wanted.items():
                verdicts[index] = _better(verdicts[index], known[pair])
            open_forms = {index: forms for index, forms in open_forms.items() if forms and not verdicts[index]}

    def _look_up(self, pairs: list[tuple[str, str]]) -> dict[tuple[str, str], Verdict]:
        with self._lock:
            known = {pair: self._cache[pair] for pair in pairs if pair in self._cache}
            self._counts["remembered"] += len(known)
        missing = [pair for pair in pairs if pair not in known]
        if missing:
            results = self.sandbox.map(_COMPARE, missing)
            for pair, result in zip(missing, results, strict=True):
                known[pair] = _verdict(result)
                if not (isinstance(result, CallLost) and result.reason in _ACCIDENTS):
                    self._remember(pair, known[pair])
        return known

    def _remember(self, pair: tuple[str, str], verdict: Verdict) -> None:
        with self._lock:
            self._cache[pair] = verdict
            if len(self._cache) > self._cached:
                self._cache.popitem(last=False)

    def _count(self, verdicts: list[Verdict]) -> None:
        outcomes = Counter(str(verdict.outcome) for verdict in verdicts)
        with self._lock:
            self._counts.update(outcomes)
        tally = _tally.get()
        if tally is not None:
            tally["timeouts"] += outcomes[Outcome.TIMEOUT]
            tally["errors"] += outcomes[Outcome.CRASH]


def equivalent(gold: Forms, answer: str) -> Verdict:
    """Compare an answer with the gold answer, or with each of its forms: one match is enough.

    Safe on any text, from any thread: pairs that cannot be decided exactly in microseconds are decided in a worker
    process within the limits of the active Scorer (else the defaults: 1 s of processor time, 30 s of wall time, 1 GB).
    """
    return active_checker().equivalent(gold, answer)


def equivalent_many(pairs: Sequence[tuple[Forms, str]]) -> list[Verdict]:
    """The verdicts on many (gold, answer) pairs, in order, with all workers at once."""
    return active_checker().equivalent_many(pairs)


def active_checker() -> Checker:
    """The Scorer's checker inside its calls; elsewhere one per process, created on first use and closed at exit."""
    return _active.get() or _default(os.getpid())


_defaults: dict[int, Checker] = {}
_defaults_lock = threading.Lock()


def _default(process: int) -> Checker:
    with _defaults_lock:
        if process not in _defaults:  # a fork cannot use its parent's checker
            _defaults.clear()
            _defaults[process] = Checker()
        return _defaults[process]


def count(name: str, number: int = 1) -> None:
    """For reward functions: add to their ``timeouts`` or ``errors`` metric; no effect outside a Scorer."""
    tally = _tally.get()
    if tally is not None:
        tally[name] += number


def _decide_here(gold: Forms, answer: str) -> tuple[Verdict, list[str], str]:
    """The verdict reached in-process, the remaining gold forms for a worker, and the cleaned answer."""
    try:
        answer = clean(answer)
    except Refused as refusal:
        return Verdict(Outcome.UNPARSABLE, str(refusal)), [], ""
    best, open_forms = Verdict(Outcome.UNPARSABLE, "gold"), []
    for form in [gold] if isinstance(gold, str) else gold:
        try:
            form = clean(form)
        except Refused:
            continue
        decided = compare_exactly(form, answer)
        if decided is None:
            open_forms.append(form)
        elif decided:
            return decided, [], answer
        else:
            best = _better(best, decided)
    return best, open_forms, answer


_RANK = {outcome: rank for rank, outcome in enumerate(("unparsable", "wrong", "crash", "timeout", "correct"))}


def _better(first: Verdict, second: Verdict) -> Verdict:
    """The stronger of two verdicts on forms of one gold answer: a match wins, and a lost check outweighs a mismatch."""
    return second if _RANK[second.outcome] >= _RANK[first.outcome] else first


def _verdict(result: object) -> Verdict:
    if isinstance(result, CallLost):
        return Verdict(Outcome.TIMEOUT if result.reason in _TIMED_OUT else Outcome.CRASH, result.reason)
    if isinstance(result, CallFailed):
        return Verdict(Outcome.CRASH, str(result).partition(":")[0])
    assert isinstance(result, list)
    return Verdict(Outcome(result[0]), result[1])

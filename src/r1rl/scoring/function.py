"""One reward function of a run: the arguments it requests, a call of it, and checks of what it returns.

Does not import numpy or torch, because worker processes run it too.
"""

from __future__ import annotations

import functools
import inspect
import math
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r1rl.errors import RewardError
from r1rl.scoring.load import REWARDS, as_function, bind
from r1rl.verify import Checker

if TYPE_CHECKING:
    from r1rl.types import Group


_OFFERED = frozenset(("trainer_state", "log_extra", "log_metric"))
"""Arguments that are created in the process that runs the function."""


class TrainerState(dict[str, Any]):
    """The trainer's state by key, and by attribute as TRL's reward functions access it."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the trainer state has no {name!r}; it has {', '.join(self)}") from None


@dataclass(frozen=True)
class Signature:
    """The arguments that a function's signature requests; ``name`` is the reward's name in the run."""

    name: str
    wants: tuple[str, ...]
    required: tuple[str, ...]
    takes_columns: bool
    settled: tuple[str, ...]
    """Arguments never filled from the dataset's columns: bound ones, and the options of r1rl's own rewards."""
    is_async: bool

    @classmethod
    def of(cls, name: str, call: Callable[..., Any]) -> Signature:
        """Inspect a function, some of whose arguments may be bound (``functools.partial``).

        Raises: RewardError if a required option of one of r1rl's own rewards is not set.
        """
        parameters = inspect.signature(call).parameters.values()
        bound, options = _bound(call), _options(call)
        lacking = sorted(p.name for p in options if p.default is p.empty and p.name not in bound)
        if lacking:
            raise RewardError(
                f"reward {name!r} needs {', '.join(lacking)}; set "
                + ", ".join(f"rewards.{name}.args.{x}" for x in lacking)
            )
        settled = bound | {p.name for p in options}
        named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in settled]
        return cls(
            name=name,
            wants=tuple(p.name for p in named),
            required=tuple(p.name for p in named if p.default is p.empty),
            takes_columns=any(p.kind is p.VAR_KEYWORD for p in parameters),
            settled=tuple(sorted(settled)),
            is_async=inspect.iscoroutinefunction(_unwrapped(call)),
        )

    @property
    def needs_state(self) -> bool:
        """Whether it needs the trainer's state."""
        return "trainer_state" in self.wants

    def request(self, group: Group, state: Mapping[str, Any] | None) -> CallRequest:
        """One call on a whole group, in TRL's protocol.

        The signature decides: a function receives the arguments that it names; a bare ``**kwargs`` receives only lists
        (prompts, token ids and the dataset's columns, each repeated per completion), since published functions zip over
        all of them. A column never replaces a ``settled`` argument.

        Raises: RewardError for a required column that the group does not have.
        """
        lists = columns_of(group)
        given = {
            key: value
            for key, value in lists.items()
            if key in self.wants or (self.takes_columns and key not in self.settled)
        }
        missing = sorted(set(self.required) - given.keys() - _OFFERED)
        if missing:
            raise RewardError(
                f"reward {self.name!r} needs {', '.join(missing)}, which source {group.problem.source!r} does not have "
                f"(its columns: {', '.join(sorted(group.problem.columns)) or 'none'}). Rename the column, or list the "
                "rewards that apply under the source's `rewards`"
            )
        return CallRequest(self.name, given, len(group), dict(state or {}) if self.needs_state else None)


@dataclass(frozen=True, slots=True)
class CallRequest:
    """One call on one group, as sent to a worker process."""

    name: str
    lists: dict[str, list[Any]]
    """Keyword arguments, one item per completion."""
    count: int
    """Number of completions in the group."""
    state: dict[str, Any] | None
    """The trainer's state, for functions that request it."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A call without a result: it was cancelled, or its process is gone."""

    reason: str
    """``timeouts``, ``memory`` or ``crashes``."""
    seconds: float

    def told(self, limit_s: float, memory_mb: int) -> str:
        """The message about the function."""
        return {
            "timeouts": f"ran for more than {limit_s:g} s",
            "memory": f"and the processes it started used more than {memory_mb} MB",
        }.get(self.reason, "ended its process")


@dataclass(frozen=True, slots=True)
class CallResult:
    """The result of one call on a group."""

    values: list[float | None]
    """One finite number per completion, None where the function does not apply."""
    seconds: float
    extras: dict[str, Any] = field(default_factory=dict)
    """Columns passed to ``log_extra``."""
    logged: list[tuple[str, float]] = field(default_factory=list)
    """Values passed to ``log_metric``."""
    tally: dict[str, int] = field(default_factory=dict)
    """``timeouts`` and ``errors`` of the answer checks it requested."""


class RewardFunction:
    """A loaded function, called in the process that loaded it."""

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        self.name = name
        self.call = call
        self.signature = Signature.of(name, call)
        self.limits_itself = bool(getattr(call, "limits_itself", False))
        """Whether it bounds the time of all that it does, so that ``scoring.function_timeout_s`` is not for it."""

    def close(self) -> None:
        """End what the function keeps running, where it has a method ``close``."""
        if callable(close := getattr(self.call, "close", None)):
            close()

    @classmethod
    def load(cls, name: str, use: str, args: Mapping[str, Any]) -> RewardFunction:
        """Find a function and bind its arguments in this process. Raises RewardError."""
        found = REWARDS.load(use)
        made = bind(name, found, args)
        return cls(name, as_function(made, args if made is found else {}))

    def run(self, request: CallRequest, checker: Checker) -> CallResult:
        """Call it. Raises RewardError if it raises or returns an invalid result."""
        with self._recorded(checker) as record:
            record.returned = self.call(**request.lists, **record.offered(self.signature.wants, request.state))
        return record.outcome(self._values(record.returned, request.count))

    async def run_async(self, request: CallRequest, checker: Checker) -> CallResult:
        """Call and await it; as ``run``."""
        with self._recorded(checker) as record:
            record.returned = await self.call(**request.lists, **record.offered(self.signature.wants, request.state))
        return record.outcome(self._values(record.returned, request.count))

    @contextmanager
    def _recorded(self, checker: Checker) -> Iterator[_Record]:
        """One call, timed; its answer checks use this process's workers, its errors become RewardErrors."""
        record = _Record()
        with checker.active(record.tally):
            try:
                yield record
            except (Exception, SystemExit) as error:
                raise self._failure(error) from error
        record.seconds = time.perf_counter() - record.began

    def _values(self, returned: Any, count: int) -> list[float | None]:
        """The returned rewards as floats. Raises RewardError for an invalid result."""
        if hasattr(returned, "tolist"):
            returned = returned.tolist()
        if isinstance(returned, str | bytes | Mapping) or not hasattr(returned, "__len__"):
            raise RewardError(
                f"reward {self.name!r} returned {type(returned).__name__}; "
                "return a list with one float or None per completion"
            )
        if len(returned) != count:
            raise RewardError(
                f"reward {self.name!r} returned {len(returned)} values for {count} completions; "
                "return one per completion"
            )
        return [self._number(value, index) for index, value in enumerate(returned)]

    def _number(self, value: Any, index: int) -> float | None:
        if value is None:
            return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise RewardError(
                f"reward {self.name!r} returned {value!r} for completion {index}; return a float, or None where it "
                "does not apply"
            ) from None
        if not math.isfinite(number):
            raise RewardError(
                f"reward {self.name!r} returned {number} for completion {index}; return a finite number, or None "
                "where it does not apply"
            )
        return number

    def _failure(self, error: BaseException) -> RewardError:
        """The error for the person at the terminal when the function raised."""
        if isinstance(error, RewardError):
            return error
        frames = traceback.extract_tb(error.__traceback__)
        file = getattr(getattr(_unwrapped(self.call), "__code__", None), "co_filename", None)
        frame = ([f for f in frames if f.filename == file] or frames)[-1]
        where = f" at {Path(frame.filename).name}:{frame.lineno}"
        message = str(error)[:300] or "no message"
        return RewardError(
            f"reward {self.name!r} raised {type(error).__name__}{where}: {message}. "
            "Return None for a completion it cannot judge"
        )


class _Record:
    """The results of a running call so far."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.seconds = 0.0
        self.returned: Any = None
        self.tally: Counter[str] = Counter()
        self._extras: dict[str, Any] = {}
        self._logged: list[tuple[str, float]] = []

    def offered(self, wants: tuple[str, ...], state: Mapping[str, Any] | None) -> dict[str, Any]:
        """Those of ``trainer_state``, ``log_extra`` and ``log_metric`` that the function requests."""
        offered = {
            "trainer_state": TrainerState(state or {}),
            "log_extra": self._extras.__setitem__,
            "log_metric": self._log_metric,
        }
        return {name: offered[name] for name in wants if name in _OFFERED}

    def outcome(self, values: list[float | None]) -> CallResult:
        """The complete result of the call."""
        return CallResult(values, self.seconds, self._extras, self._logged, dict(self.tally))

    def _log_metric(self, name: str, value: float) -> None:
        self._logged.append((name, float(value)))


def columns_of(group: Group) -> dict[str, list[Any]]:
    """The lists every reward function may request, one item per completion.

    Completions are strings for a plain prompt and one-message conversations for a conversational one. ``prefill`` is
    the text that the template already wrote for the assistant, unless the dataset has a column of that name.
    """
    problem, count = group.problem, len(group)
    texts = [completion.text for completion in group.completions]
    plain = isinstance(problem.prompt, str)
    columns = {"prefill": problem.prefill, **problem.columns}
    return {
        **{name: [value] * count for name, value in columns.items()},
        "prompts": [problem.prompt] * count,
        "completions": texts if plain else [[{"role": "assistant", "content": text}] for text in texts],
        "completion_ids": [completion.token_ids.tolist() for completion in group.completions],
    }


def _bound(call: Callable[..., Any]) -> set[str]:
    """Names of the arguments already bound by ``functools.partial``."""
    names: set[str] = set()
    while isinstance(call, functools.partial):
        inner = list(inspect.signature(call.func).parameters)
        names |= {*call.keywords, *inner[: len(call.args)]}
        call = call.func
    return names


def _options(call: Callable[..., Any]) -> list[inspect.Parameter]:
    """The keyword-only arguments of one of r1rl's own rewards, which only the configuration sets, so that a dataset
    with a column ``target`` does not choose the language. In TRL's functions they may be columns."""
    function = _unwrapped(call)
    if getattr(function, "__module__", "").partition(".")[0] != "r1rl_rewards":
        return []
    return [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]


def _unwrapped(call: Callable[..., Any]) -> Callable[..., Any]:
    """The function that runs when a partial or an object with ``__call__`` is called."""
    while isinstance(call, functools.partial):
        call = call.func
    return call if inspect.isroutine(call) else type(call).__call__

"""One reward function of a run: which arguments it wants, and whether what it returned can be used."""

from __future__ import annotations

import functools
import inspect
import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from r1rl.config.rewards import RewardConfig
from r1rl.errors import RewardError
from r1rl.scoring.registry import bind, load
from r1rl.types import Group


class TrainerState(dict[str, Any]):
    """The trainer's state by key, and by attribute as TRL's functions read it."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the trainer state has no {name!r}; it has {', '.join(self)}") from None


@dataclass(frozen=True)
class RewardFunction:
    """A function with its name in the run, its weight and what its signature asks for."""

    name: str
    weight: float
    call: Callable[..., Any]
    wants: frozenset[str]
    required: frozenset[str]
    takes_columns: bool
    is_async: bool

    @classmethod
    def from_config(cls, name: str, config: RewardConfig) -> RewardFunction:
        """Load, bind and inspect a configured reward. Raises RewardError."""
        call = bind(name, load(config.use or name), config.args)
        parameters = inspect.signature(call).parameters.values()
        named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        return cls(
            name=name,
            weight=config.weight,
            call=call,
            wants=frozenset(p.name for p in named) - config.args.keys(),
            required=frozenset(p.name for p in named if p.default is p.empty) - config.args.keys(),
            takes_columns=any(p.kind is p.VAR_KEYWORD for p in parameters),
            is_async=inspect.iscoroutinefunction(_unwrapped(call)),
        )

    @property
    def needs_state(self) -> bool:
        """Whether it can only run once the trainer's state is known."""
        return "trainer_state" in self.wants

    def arguments(self, group: Group, extras: Mapping[str, Any]) -> dict[str, Any]:
        """Keyword arguments for one call on a whole group, in TRL's protocol.

        The signature decides: what it names, it gets; a bare ``**kwargs`` gets the lists only (prompts, token ids and
        the dataset's columns, each repeated per completion), since published functions zip over all of them.
        """
        lists = columns_of(group)
        given = {key: value for key, value in lists.items() if key in self.wants or self.takes_columns}
        given |= {key: value for key, value in extras.items() if key in self.wants}
        missing = sorted(self.required - given.keys())
        if missing:
            raise RewardError(
                f"reward {self.name!r} needs {', '.join(missing)}, which source {group.problem.source!r} does not have "
                f"(its columns: {', '.join(sorted(group.problem.columns)) or 'none'}). Rename the column, or list the "
                "rewards that apply under the source's `rewards`"
            )
        return given

    def values(self, returned: Any, count: int) -> np.ndarray:
        """What a call returned as [count] float64, NaN for None. Raises RewardError for anything unusable."""
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
        return np.array([self._number(value, index) for index, value in enumerate(returned)], dtype=np.float64)

    def _number(self, value: Any, index: int) -> float:
        if value is None:
            return math.nan
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

    def failure(self, error: BaseException) -> RewardError:
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


def columns_of(group: Group) -> dict[str, list[Any]]:
    """The lists every reward function may ask for, one item a completion.

    Completions are strings for a plain prompt and one-message conversations for a conversational one. ``prefill`` is
    what the template already wrote for the assistant, unless the dataset has a column of that name.
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


def _unwrapped(call: Callable[..., Any]) -> Callable[..., Any]:
    """What runs when a partial or an object with ``__call__`` is called."""
    while isinstance(call, functools.partial):
        call = call.func
    return call if inspect.isroutine(call) else type(call).__call__

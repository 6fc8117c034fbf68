"""Finds reward functions by name (entry points, files, modules) and binds the configured arguments to them."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

from r1rl.errors import RewardError
from r1rl.locate import Located, nearest
from r1rl.registry import Registry

GROUP = "r1rl.rewards"
"""The entry-point group; r1rl's own rewards are registered in it like anyone else's."""


def _entry_points() -> dict[str, str]:
    return {point.name: f"{point.module}:{point.attr}" for point in entry_points(group=GROUP)}


REWARDS = Registry("reward", _entry_points, RewardError)
"""``rewards.NAME.function``: an object for :func:`bind`."""


def origins() -> list[tuple[str, str]]:
    """(name, ``module:attribute``) of every registered reward."""
    return sorted(REWARDS.entries.items())


def place_of(use: str) -> tuple[str, bool]:
    """The file or module that ``use`` is loaded from, and whether it is one of r1rl's own rewards."""
    entry = use if ":" in use else REWARDS.entries.get(use, use)
    place = entry.rpartition(":")[0] or entry
    ours = ":" not in use and place.partition(".")[0] == "r1rl_rewards"
    return (str(Path(place).resolve()) if place.endswith(".py") else place), ours


def bind(name: str, found: Any, args: Mapping[str, Any]) -> Any:
    """A reward from the loaded object: the function with ``args`` bound, or the result of a class or factory.

    A class is instantiated with ``args``; a function that takes neither ``completions`` nor ``**kwargs`` is a factory
    (open-r1 has several) and is called with them. A ``torch.nn.Module`` stays one; see ``as_function``.
    """
    if is_torch_module(found):
        return found
    if not callable(found):
        raise RewardError(f"reward {name!r} is {type(found).__name__}, not a function; name a callable")
    _check_args(name, found, args)
    if inspect.isclass(found) or not _takes_completions(found):
        return _make(name, found, args)
    return functools.partial(found, **args) if args else found


def as_function(bound: Any, args: Mapping[str, Any]) -> Callable[..., Any]:
    """The callable for a bound reward; a ``torch.nn.Module`` becomes a reward model constructed with ``args``."""
    if not is_torch_module(bound):
        return cast(Callable[..., Any], bound)
    return cast(Callable[..., Any], REWARDS.load("reward_model")(model=bound, **args))


def check_args(name: str, found: Located, args: Mapping[str, Any], *, ours: bool = False) -> None:
    """Raises RewardError for an argument that a reward function does not take; classes and factories may take any.

    ``ours``: it is one of r1rl's own, whose keyword-only arguments without default must be configured.
    """
    if not isinstance(found.node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    taken = found.node.args
    parameters = [argument.arg for argument in (*taken.posonlyargs, *taken.args, *taken.kwonlyargs)]
    for argument in args:
        if argument not in parameters and ("completions" in parameters or taken.kwarg is None):
            raise RewardError(f"reward {name!r} takes no argument {argument!r}{nearest(argument, parameters)}")
    needed = [a.arg for a, default in zip(taken.kwonlyargs, taken.kw_defaults, strict=True) if default is None]
    lacking = [argument for argument in needed if ours and argument not in args]
    if lacking:
        raise RewardError(f"reward {name!r} needs {', '.join(lacking)}; give them under its args")


def _check_args(name: str, found: Any, args: Mapping[str, Any]) -> None:
    try:
        parameters = inspect.signature(found).parameters
    except (TypeError, ValueError):  # some builtins have no signature
        return
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if open_ended and "completions" not in parameters:
        return  # a class or factory may pass on any argument; a function's ``**kwargs`` are the dataset's columns
    for argument in args:
        if argument not in parameters:
            raise RewardError(f"reward {name!r} takes no argument {argument!r}{nearest(argument, parameters)}")


def _takes_completions(found: Any) -> bool:
    parameters = inspect.signature(found).parameters.values()
    return any(p.name == "completions" or p.kind is p.VAR_KEYWORD for p in parameters)


def _make(name: str, factory: Callable[..., Any], args: Mapping[str, Any]) -> Callable[..., Any]:
    try:
        made: object = factory(**args)
    except TypeError as error:
        raise RewardError(f"reward {name!r} cannot be made from args {dict(args)}: {error}") from error
    if not callable(made):
        raise RewardError(f"reward {name!r}: {factory!r} takes no completions and returned {made!r}, not a function")
    return made


def is_torch_module(found: Any) -> bool:
    """Whether ``made`` is a ``torch.nn.Module``; does not import torch."""
    torch = sys.modules.get("torch")  # without torch imported there are no instances of its Module
    return torch is not None and isinstance(found, torch.nn.Module)

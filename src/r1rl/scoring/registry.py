"""Reward functions by name: entry points, files, modules; and the arguments of the configuration bound to them."""

from __future__ import annotations

import difflib
import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from r1rl.errors import RewardError
from r1rl.imports import import_file, import_module

GROUP = "r1rl.rewards"
"""The entry-point group; r1rl's own rewards are registered in it like anyone else's."""


def origins() -> list[tuple[str, str]]:
    """(name, ``module:attribute``) of every registered reward."""
    return sorted((name, point.value) for name, point in registered().items())


def load(use: str) -> Any:
    """The object behind a registered name, ``path/to/file.py:function`` or ``package.module:function``.

    Raises: RewardError when nothing is there, naming the nearest thing that is.
    """
    place, colon, attribute = use.rpartition(":")
    if not colon:
        return _from_entry_point(use)
    module = _from_file(Path(place)) if place.endswith(".py") else _from_module(place, use)
    if not hasattr(module, attribute):
        near = nearest(attribute, [name for name, value in vars(module).items() if callable(value)])
        raise RewardError(f"reward {use!r}: {place} has no {attribute!r}{near}")
    return getattr(module, attribute)


def place_of(use: str) -> tuple[str, bool]:
    """The file or module that ``use`` is loaded from, and whether it is one of r1rl's own rewards."""
    place, colon, _ = use.rpartition(":")
    if not colon:
        point = registered().get(use)
        place = point.module if point is not None else use
    ours = not colon and place.partition(".")[0] == "r1rl_rewards"
    return (str(Path(place).resolve()) if place.endswith(".py") else place), ours


def bind(name: str, found: Any, args: Mapping[str, Any]) -> Any:
    """A reward from what was loaded: the function with ``args`` bound, or what a class or factory makes.

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
    """What was bound, to be called; a ``torch.nn.Module`` becomes a reward model made with ``args``."""
    if not is_torch_module(bound):
        return cast(Callable[..., Any], bound)
    return cast(Callable[..., Any], load("reward_model")(model=bound, **args))


def registered() -> dict[str, EntryPoint]:
    """The registered rewards by name; nothing of theirs is imported."""
    return {point.name: point for point in entry_points(group=GROUP)}


def _from_entry_point(name: str) -> Any:
    points = registered()
    if name not in points:
        raise RewardError(unknown_name(name))
    try:
        return points[name].load()
    except (ImportError, AttributeError) as error:
        raise RewardError(f"reward {name!r} ({points[name].value}) does not load: {error}") from error


def unknown_name(name: str) -> str:
    """What to say of a name that is not registered."""
    points = registered()
    return (
        f"no reward is called {name!r}{nearest(name, points)}; registered: {', '.join(sorted(points))}. "
        "Your own function is named by path/to/file.py:function or package.module:function"
    )


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise RewardError(f"reward file {str(path)!r} does not exist (looked in {Path.cwd()})")
    try:
        return import_file(path)
    except Exception as error:
        raise RewardError(f"reward file {str(path)!r} does not import: {type(error).__name__}: {error}") from error


def _from_module(place: str, use: str) -> ModuleType:
    try:
        return import_module(place)
    except ImportError as error:
        raise RewardError(f"reward {use!r}: module {place!r} does not import: {error}") from error


def nearest(name: str, candidates: Any) -> str:
    """``; did you mean NAME?``, empty where none is near."""
    close = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}?" if close else ""


def _check_args(name: str, found: Any, args: Mapping[str, Any]) -> None:
    try:
        parameters = inspect.signature(found).parameters
    except (TypeError, ValueError):  # some builtins have no signature
        return
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if open_ended and "completions" not in parameters:
        return  # a class or factory may hand any argument on; a function's ``**kwargs`` are the dataset's columns
    for argument in args:
        if argument not in parameters:
            raise RewardError(f"reward {name!r} takes no argument {argument!r}{nearest(argument, parameters)}")


def _takes_completions(found: Any) -> bool:
    parameters = inspect.signature(found).parameters.values()
    return any(p.name == "completions" or p.kind is p.VAR_KEYWORD for p in parameters)


def _make(name: str, factory: Callable[..., Any], args: Mapping[str, Any]) -> Callable[..., Any]:
    try:
        made = factory(**args)
    except TypeError as error:
        raise RewardError(f"reward {name!r} cannot be made from args {dict(args)}: {error}") from error
    if not callable(made):
        raise RewardError(f"reward {name!r}: {factory!r} takes no completions and made no function but {made!r}")
    return made


def is_torch_module(found: Any) -> bool:
    """Whether it is an instance of ``torch.nn.Module``; does not import torch."""
    torch = sys.modules.get("torch")  # an instance of its Module cannot exist before it was imported
    return torch is not None and isinstance(found, torch.nn.Module)

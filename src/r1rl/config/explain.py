"""Turns what pydantic found wrong into one message that says which key, where, and what to write instead."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from r1rl.config.base import KeyPath, Section
from r1rl.config.run import RunConfig

Locate = Callable[[KeyPath], tuple[str, str]]
"""The name of a key as its author wrote it, and where it stands (may be empty)."""

SHOWN = 5

# Names of the same things elsewhere (TRL, open-r1, verl, OpenRLHF).
ELSEWHERE = {
    "learning_rate": "grpo.learning_rate",
    "num_generations": "rollout.group_size",
    "max_completion_length": "rollout.max_new_tokens",
    "max_prompt_length": "data.prompt.max_tokens",
    "num_iterations": "grpo.epochs",
    "max_steps": "grpo.steps",
    "epsilon": "grpo.clip_low",
    "epsilon_high": "grpo.clip_high",
    "kl_coef": "grpo.beta",
    "loss_type": "grpo.loss",
    "scale_rewards": "grpo.scale_rewards",
    "mask_truncated_completions": "grpo.mask_truncated",
    "model_name_or_path": "model.path",
    "dataset_name": "data.train.NAME.path",
    "reward_funcs": "rewards.NAME",
    "reward_weights": "rewards.NAME.weight",
    "system_prompt": "data.prompt.system",
    "use_vllm": "rollout.engine",
    "gradient_accumulation_steps": "grpo.tokens_per_microbatch",
    "per_device_train_batch_size": "grpo.tokens_per_microbatch",
    "warmup_steps": "grpo.warmup_updates",
    "save_steps": "grpo.checkpoint_every",
    "eval_steps": "grpo.eval_every",
}


def explain(error: ValidationError, raw: Mapping[str, Any], locate: Locate) -> str:
    """One line for everything that is wrong, each with its place, its key and the nearest valid key."""
    found: dict[KeyPath, str] = {}
    for item in error.errors(include_url=False):
        path = _written(item["loc"], raw)
        name, where = locate(path)
        message = _describe(item, path, name)  # type: ignore[arg-type]
        found.setdefault(path, f"{where}: {message}" if where else message)
    lines = list(found.values())
    rest = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "; ".join(lines[:SHOWN] + rest)


def _describe(item: dict[str, Any], path: KeyPath, name: str) -> str:
    if item["type"] == "extra_forbidden":
        return f"unknown key {name}{suggest(path, name)}"
    if item["type"] == "missing":
        return f"{name} is required"
    message = str(item["msg"]).removeprefix("Input ").removeprefix("Value error, ")
    return f"{name} {message}, got {_short(item['input'])}"


def _written(loc: tuple[int | str, ...], raw: Any) -> KeyPath:
    """The part of pydantic's location that is a path of keys: unions append the type they tried."""
    path: list[str] = []
    for part in loc:
        if isinstance(raw, Mapping):
            path.append(str(part))
            raw = raw.get(part)
        elif isinstance(raw, list | tuple) and isinstance(part, int) and part < len(raw):
            path.append(str(part))
            raw = raw[part]
        else:
            break
    return tuple(path)


def suggest(path: KeyPath, name: str) -> str:
    """What the author may have meant: the nearest key beside it, or the same name in another section.

    ``path`` is the unknown key's place in the schema, ``name`` the key as it was written.
    """
    *parents, last = path
    siblings = valid_keys(tuple(parents))
    near = difflib.get_close_matches(last, siblings, n=1)
    if near:
        return f" (nearest: {name.removesuffix(last)}{near[0]})"
    if last in ELSEWHERE:
        return f" (here it is {ELSEWHERE[last]})"
    elsewhere = [".".join(other) for other in _all_keys(RunConfig) if other[-1] == last]
    if elsewhere:
        return f" (did you mean {' or '.join(elsewhere[:3])}?)"
    return f" (valid here: {', '.join(siblings)})" if siblings else ""


def valid_keys(path: KeyPath) -> list[str]:
    """Keys of the section at ``path``; empty where any name or no section may stand."""
    if len(path) >= 2 and path[0] == "stages":
        path = path[2:] if len(path) > 2 else ()
    kind: Any = RunConfig
    for part in path:
        if isinstance(kind, type) and issubclass(kind, Section):
            field = kind.model_fields.get(part)
            kind = _section(field.annotation) if field else None
        elif typing.get_origin(kind) is dict:
            kind = _section(typing.get_args(kind)[1])
        else:
            return []
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, Section) else []


def _section(annotation: Any) -> Any:
    """The section or mapping inside an annotation such as ``Section | None``."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        options = [_section(option) for option in typing.get_args(annotation)]
        return next((option for option in options if option is not None), None)
    if typing.get_origin(annotation) is dict:
        return annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _all_keys(section: type[BaseModel], path: KeyPath = ()) -> Iterator[KeyPath]:
    for name, field in section.model_fields.items():
        here = (*path, name)
        yield here
        inner = _section(field.annotation)
        if typing.get_origin(inner) is dict:
            here, inner = (*here, "NAME"), _section(typing.get_args(inner)[1])
        if inner is not None and typing.get_origin(inner) is None:
            yield from _all_keys(inner, here)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

"""Sequences longer than the model's positions, rejected before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from r1rl.errors import ConfigError
from r1rl.types import Problem


def positions_of(model: Any) -> int | None:
    """Most tokens of a sequence that the model was made for; None where its configuration names no bound."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def check_prompts(
    problems: Iterable[Problem], completion: int, model: Any, key: str = "rollout.max_new_tokens"
) -> None:
    """:func:`check_length` of the longest prompt of these problems."""
    longest = max((len(problem.prompt_ids) for problem in problems), default=0)
    check_length(longest, completion, positions_of(model), key)


def check_examples(longest: int, key: str, model: Any) -> None:
    """Refuse texts to learn from that are longer than the model's positions.

    Args:
        longest: tokens of the longest one.
        key: of the configuration, which leaves longer ones out.

    Raises:
        ConfigError: they do not fit.
    """
    positions = positions_of(model)
    if positions is not None and longest > positions:
        raise ConfigError(
            f"the longest example has {longest} tokens, but the model has {positions} positions: set {key} to at most "
            f"{positions}, which leaves longer ones out, or take a model with more (rope_scaling in its config.json)"
        )


def check_length(prompt: int, completion: int, positions: int | None, key: str = "rollout.max_new_tokens") -> None:
    """Refuse samples longer than the model's positions: it would continue and compute nonsense.

    Args:
        prompt: tokens of the longest prompt.
        completion: most tokens of a completion.
        positions: see :func:`positions_of`.
        key: of the configuration, which bounds the completion.

    Raises:
        ConfigError: they do not fit.
    """
    if positions is not None and prompt + completion > positions:
        raise ConfigError(
            f"{key} {completion} behind the longest prompt of {prompt} tokens make "
            f"{prompt + completion}, but the model has {positions} positions: use at most "
            f"{max(positions - prompt, 0)}, lower data.prompt.max_tokens, "
            "or take a model with more (rope_scaling in its config.json)"
        )

"""Rejects sequences longer than the model's positions before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from r1rl.errors import ConfigError
from r1rl.types import Problem


def positions_of(model: Any) -> int | None:
    """Largest number of tokens per sequence that the model supports; None if its configuration sets no limit."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def check_prompts(
    problems: Iterable[Problem], completion: int, model: Any, key: str = "rollout.max_new_tokens"
) -> None:
    """:func:`check_length` for the longest prompt of these problems."""
    longest = max((len(problem.prompt_ids) for problem in problems), default=0)
    check_length(longest, completion, positions_of(model), key)


def check_examples(longest: int, key: str, model: Any) -> None:
    """Reject training texts that are longer than the model's positions.

    Args:
        longest: tokens of the longest text.
        key: the configuration key that leaves longer texts out.

    Raises:
        ConfigError: the length exceeds the positions.
    """
    positions = positions_of(model)
    if positions is not None and longest > positions:
        raise ConfigError(
            f"the longest example has {longest} tokens, but the model has {positions} positions: set {key} to at most "
            f"{positions}, which leaves longer ones out, or use a model with more (rope_scaling in its config.json)"
        )


def check_length(prompt: int, completion: int, positions: int | None, key: str = "rollout.max_new_tokens") -> None:
    """Reject samples longer than the model's positions, beyond which it computes nonsense without an error.

    Args:
        prompt: tokens of the longest prompt.
        completion: maximum tokens of a completion.
        positions: see :func:`positions_of`.
        key: the configuration key that limits the completion.

    Raises:
        ConfigError: the length exceeds the positions.
    """
    if positions is not None and prompt + completion > positions:
        raise ConfigError(
            f"{key} {completion} plus the longest prompt of {prompt} tokens is "
            f"{prompt + completion}, but the model has {positions} positions: use at most "
            f"{max(positions - prompt, 0)}, lower data.prompt.max_tokens, "
            "or use a model with more (rope_scaling in its config.json)"
        )

"""What a run cannot do, said before it starts or, where only memory tells, in one line when it happens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch

from r1rl.errors import ConfigError, TrainingError
from r1rl.types import Problem

_SPLITS = {
    "PARALLELISM_CONFIG_SP_SIZE": "sequence parallelism (parallelism_config_sp_size)",
    "PARALLELISM_CONFIG_CP_SIZE": "context parallelism (parallelism_config_cp_size)",
    "PARALLELISM_CONFIG_TP_SIZE": "tensor parallelism (parallelism_config_tp_size)",
}
_SHARDERS = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}


def check_launch(environment: Mapping[str, str]) -> None:
    """Refuse what a launch file of ``accelerate`` can ask for and this project would silently not do.

    Raises:
        ConfigError: names the key and what to use instead.
    """
    for name, what in _SPLITS.items():
        if int(environment.get(name) or 1) > 1:
            raise ConfigError(
                f"the launch file asks for {what}, which r1rl does not take from there. Set it to 1, and for samples "
                "that do not fit use grpo.sequence_parallel, model.gradient_checkpointing: true, ZeRO-3 "
                "(launch/accelerate/zero3.yaml) or a lower rollout.max_new_tokens; `r1rl doctor` estimates the memory"
            )
    for name, what in _SHARDERS.items():
        if environment.get(name, "").lower() == "true":
            raise ConfigError(
                f"the launch file asks for {what}; r1rl shards by DeepSpeed: use one of launch/accelerate/zero1.yaml, "
                "zero2.yaml, zero3.yaml"
            )


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
    """Refuse samples longer than the model's positions: it would go on, and compute nonsense.

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


@contextlib.contextmanager
def naming_memory(longest: Callable[[], int], budget: int, recomputes: bool) -> Iterator[None]:
    """Say which key to change when memory does not suffice, instead of the allocator's words.

    Args:
        longest: tokens of the longest sample at hand, 0 if there is none.
        budget: ``grpo.tokens_per_microbatch``.
        recomputes: whether activations are recomputed already.

    Raises:
        TrainingError: memory did not suffice.
    """
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; on the CPU it is told by its words alone
        if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        tokens = longest()
        first = (
            f"lower grpo.tokens_per_microbatch (now {budget}; the longest sample has {tokens} tokens)"
            if budget > tokens
            else f"the longest sample has {tokens} tokens: raise grpo.sequence_parallel or lower rollout.max_new_tokens"
        )
        second = "" if recomputes else "set model.gradient_checkpointing: true, "
        raise TrainingError(
            f"out of memory: {first}; or {second}lower grpo.logprob_chunk and rollout.max_concurrent, or shard more "
            f"(ZeRO-3). `r1rl doctor` estimates each part. The same command goes on from the last checkpoint "
            f"({str(error).splitlines()[0][:160]})"
        ) from error

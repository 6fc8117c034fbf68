"""Out of memory: names the keys to change."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch

from r1rl.errors import TrainingError


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
            f"(ZeRO-3). `r1rl doctor` estimates each part. The same command resumes from the last checkpoint "
            f"({str(error).splitlines()[0][:160]})"
        ) from error

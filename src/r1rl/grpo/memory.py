"""Out of memory: names the keys to change."""

from __future__ import annotations

import torch

from r1rl.errors import TrainingError, first_line


def out_of_memory(error: RuntimeError, longest: int, budget: int, recomputes: bool) -> TrainingError | None:
    """The error to raise where ``error`` reports that memory ran out; None for any other error.

    Args:
        longest: tokens of the longest sample being learned from, 0 if there is none.
        budget: ``grpo.tokens_per_microbatch``.
        recomputes: whether activations are recomputed already.
    """
    # On the CPU it is identifiable only by its message.
    if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
        return None
    first = (
        f"lower grpo.tokens_per_microbatch (now {budget}; the longest sample has {longest} tokens)"
        if budget > longest
        else f"the longest sample has {longest} tokens: raise grpo.sequence_parallel or lower rollout.max_new_tokens"
    )
    second = "" if recomputes else "set model.gradient_checkpointing: true, "
    return TrainingError(
        f"out of memory: {first}; or {second}lower grpo.logprob_chunk and rollout.max_concurrent, or shard more "
        f"(ZeRO-3). `r1rl doctor` estimates each part. The same command resumes from the last checkpoint "
        f"({first_line(error)[:160]})"
    )

"""Sizes that follow from the configuration: the cost of a step and of a run, before they start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from r1rl.config.applied import idle, training_applies, training_rewards
from r1rl.config.schema import RunConfig


@dataclass(frozen=True, slots=True)
class Derived:
    """Sizes of one grpo stage, over all processes. Tokens are upper bounds: each text at its limit."""

    completions_per_step: int
    """prompts_per_step × group_size; dynamic sampling draws up to max_rounds × oversample times as many."""
    updates_per_rollout: int
    """minibatches × epochs."""
    completions_per_update: int
    max_sequence_tokens: int
    """Longest prompt plus longest completion."""
    max_tokens_per_step: int
    total_updates: int
    total_completions: int

    def rows(self) -> Iterator[tuple[str, int]]:
        """Each size with its label."""
        yield "completions per step", self.completions_per_step
        yield "updates per rollout", self.updates_per_rollout
        yield "completions per update", self.completions_per_update
        yield "tokens per sequence, at most", self.max_sequence_tokens
        yield "tokens per step, at most", self.max_tokens_per_step
        yield "updates in all", self.total_updates
        yield "completions in all", self.total_completions


def derive(run: RunConfig) -> Derived:
    """The sizes of a grpo stage; ``run`` is the configuration as that stage sees it."""
    completions = run.rollout.prompts_per_step * run.rollout.group_size
    updates = run.grpo.minibatches * run.grpo.epochs
    prompts = [(source.prompt or run.data.prompt).max_tokens for source in run.data.train.values()]
    sequence = max(prompts, default=run.data.prompt.max_tokens) + run.rollout.max_new_tokens
    return Derived(
        completions_per_step=completions,
        updates_per_rollout=updates,
        completions_per_update=completions // run.grpo.minibatches,
        max_sequence_tokens=sequence,
        max_tokens_per_step=completions * sequence,
        total_updates=run.grpo.steps * updates,
        total_completions=run.grpo.steps * completions,
    )


def notes(run: RunConfig) -> Iterator[str]:
    """Warnings about a grpo stage: settings that are allowed but may surprise; ``run`` as that stage sees it."""
    grpo, sizes = run.grpo, derive(run)
    if grpo.tokens_per_microbatch < sizes.max_sequence_tokens:
        yield (
            f"grpo.tokens_per_microbatch {grpo.tokens_per_microbatch} is less than one sequence at its limit "
            f"({sizes.max_sequence_tokens}): the longest sequences get their own micro-batch"
        )
    if grpo.beta == 0 and grpo.ref_update_every:
        yield "grpo.ref_update_every has no effect at grpo.beta 0"
    for name in idle(training_rewards(run), training_applies(run)):
        yield f"reward {name} does not run in this stage: no source of it lists it"
    if run.model.trust_remote_code:
        yield "model.trust_remote_code runs Python code that comes with the checkpoint"

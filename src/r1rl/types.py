"""The typed objects that flow through a run, one type per step.

Problem → Group (problem, G completions) → ScoredGroup → advantages → packed micro-batches → update.
Packages pass these to each other and nothing else. No torch in this module: the reward workers import it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Message = dict[str, str]
FinishReason = Literal["stop", "length", "abort"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One prompt to learn from, ready for the engine and for the reward functions."""

    id: str
    """Stable over runs and processes: the source's name and a hash of the row."""
    prompt_ids: tuple[int, ...]
    """The rendered prompt as token ids, which the engine continues."""
    prompt: str | list[Message]
    """Passed to reward functions: plain text, or the messages of a conversational prompt."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """The other columns of the dataset, by name (for example ``answer``)."""
    source: str = ""
    """Name of the dataset in the configuration; determines the rewards that apply."""
    prefill: str = ""
    """Text that the prompt template already wrote for the assistant (for example ``<think>\\n``)."""


@dataclass(slots=True)
class Completion:
    """One sampled continuation of a problem's prompt."""

    token_ids: np.ndarray
    """[T] int64, the stop token included when one was sampled."""
    logps: np.ndarray
    """[T] float32, natural log-probability of each token under the distribution it was sampled from."""
    text: str
    """Decoded without the tokens that end it; does not repeat the template's pre-filled text."""
    finish: FinishReason
    version: int = 0
    """Version of the policy that sampled the first token; each step of training makes the next one."""
    versions: np.ndarray | None = None
    """[T] int32 policy version of each token where weights changed in flight; None where all are ``version``."""

    def __len__(self) -> int:
        return len(self.token_ids)


@dataclass(slots=True)
class Group:
    """A problem with its G completions; not split before its advantages are computed."""

    problem: Problem
    completions: list[Completion]

    def __len__(self) -> int:
        return len(self.completions)


@dataclass(slots=True)
class ScoredGroup:
    """A group with its rewards.

    ``rewards`` is the weighted sum per completion, [G] float64. A function that did not apply (returned None) adds
    nothing to it; if no function with a weight applied, it is NaN: the completion is unscored and is left out of
    everything computed from rewards. ``by_reward`` holds each function's own values, [G] float64, NaN where it returned
    None.
    """

    group: Group
    rewards: np.ndarray
    by_reward: dict[str, np.ndarray]
    extras: dict[str, list[Any]] = field(default_factory=dict)
    """Columns that reward functions passed to ``log_extra``, one item per completion; for the table of samples."""

    def __post_init__(self) -> None:
        if self.rewards.shape != (len(self.group),):
            raise ValueError(f"expected {len(self.group)} rewards for a group, got shape {self.rewards.shape}")

    @property
    def scored(self) -> np.ndarray:
        """The rewards of the completions that have one, [S] float64 with S at most G."""
        scored: np.ndarray = self.rewards[~np.isnan(self.rewards)]
        return scored


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How one request is sampled. ``temperature`` 0 is greedy; ``top_p`` 1 and ``top_k`` 0 switch the filters off."""

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop: Sequence[str] = ()

"""How a policy is measured."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from r1rl.config.base import Section


class EvaluateConfig(Section):
    """pass@1 over k samples, pass@k and majority vote (paper: T 0.6, top-p 0.95, k 16 to 64)."""

    former_names: ClassVar = {"batch": "batch_size"}

    samples: int = Field(8, ge=1)
    """Completions per problem, k."""
    temperature: float = Field(0.6, ge=0)
    """0 is greedy."""
    top_p: float = Field(0.95, gt=0, le=1)
    """Sample from the most probable tokens whose probabilities add up to this."""
    top_k: int = Field(0, ge=0)
    """Sample from the k most probable tokens; 0 is off."""
    max_new_tokens: int | None = Field(None, ge=1)
    """None takes the rollout's."""
    reward: str = "accuracy"
    """Reward that decides whether a completion is correct: above 0.5."""
    batch_size: int = Field(256, ge=1)
    """Sequences an evaluation stage decodes at once; evaluations during training use rollout.max_concurrent."""
    show: int = Field(3, ge=0)
    """Completions printed at the end, before and after."""

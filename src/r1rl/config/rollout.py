"""How completions are sampled."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from r1rl.config.base import Section


class DynamicSamplingConfig(Section):
    """Replace groups whose rewards are all equal, which teach nothing (DAPO, arXiv 2503.14476, section 3.2)."""

    max_rounds: int = Field(4, ge=1)
    """Rounds of sampling before the step goes on with the useful groups it has."""
    min_std: float = Field(1e-6, ge=0)
    """A group with a smaller standard deviation of rewards is not useful."""


class RolloutConfig(Section):
    """The engine that samples completions and what it is asked for."""

    engine: Literal["torch", "vllm"] = "torch"
    """torch: embedded, on the policy's own weights. vllm: colocated or served."""
    prompts: int = Field(32, ge=1)
    """Questions a step (paper: 32, or 512 drawn at once and cut into 16 minibatches)."""
    group_size: int = Field(16, ge=1)
    """Completions a question, G (paper: 16)."""
    max_new_tokens: int = Field(1024, ge=1)
    """Longest completion, in tokens; a longer one is cut and counts as truncated."""
    temperature: float = Field(1.0, gt=0)
    """The learner's logits are divided by it too."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Must be 1 in training: the learner knows only the whole distribution."""
    top_k: int = Field(0, ge=0)
    """Must be 0 (off) in training, for the same reason."""
    stop: list[str] = Field(default_factory=list)
    """Strings that end a completion; they stay in its text."""
    max_concurrent: int = Field(256, ge=1)
    """Sequences the embedded engine decodes at once."""
    max_staleness: int = Field(0, ge=0)
    """Oldest policy, in updates, whose samples may still be trained on; 0 is strictly on-policy."""
    dynamic_sampling: DynamicSamplingConfig = Field(default_factory=DynamicSamplingConfig)
    """Bounds of dynamic sampling; grpo.dynamic_sampling switches it on."""

"""Training a reward model on preferences."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from r1rl.config.base import Section


class RewardModelConfig(Section):
    """TRL's RewardTrainer on ``data.train``: one score for prompt and response, Bradley–Terry loss on pairs.

    The paper's: batch 256, lr 6e-6, 1 epoch, 8,192 tokens (arXiv 2501.12948).
    """

    former_names: ClassVar = {
        "lr": "learning_rate",
        "batch": "batch_size",
        "micro_batch": "micro_batch_size",
        "center": "center_rewards_coefficient",
    }

    chosen: str = "chosen"
    """Column with the better response."""
    rejected: str = "rejected"
    """Column with the worse one."""
    part: Literal["summary", "response"] = "response"
    """What is scored: all of the response (paper: safety), or what follows the thought (paper: helpfulness)."""
    epochs: float = Field(1.0, gt=0)
    """Passes over the pairs."""
    learning_rate: float = Field(6e-6, gt=0)
    """Peak learning rate; it falls linearly to 0."""
    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    """Fraction of the updates that are linear warm-up."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay of AdamW, applied to matrices only."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients with a larger norm are clipped to it."""
    batch_size: int = Field(256, ge=1)
    """Pairs per update, over all processes."""
    micro_batch_size: int = Field(8, ge=1)
    """Pairs per forward pass of one process."""
    max_tokens: int = Field(8192, ge=16)
    """Longest prompt with response; pairs with a longer one are left out and counted."""
    held_out: float = Field(0.1, ge=0, lt=1)
    """Share of the pairs of every source kept from training to measure how often the model agrees with them; a hash of
    ``seed`` and question chooses, and pairs of one question stay together."""
    center_rewards_coefficient: float = Field(0.0, ge=0)
    """Weight of the term that pulls the mean score towards 0 (arXiv 2312.09244, eq. 2; 0.01 is usual); 0 is off."""
    checkpoint_every: int = Field(200, ge=0)
    """Updates between checkpoints; 0 saves none."""

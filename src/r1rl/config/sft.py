"""Supervised fine-tuning on prompts with their responses."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from r1rl.config.base import Section


class SFTConfig(Section):
    """TRL's SFTTrainer on ``data.train``: loss on the response alone, thoughts kept, sequences packed.

    The paper's: 2 to 3 epochs, batch 128, cosine from 5e-5 to a tenth, 32,768 tokens (arXiv 2501.12948).
    """

    former_names: ClassVar = {
        "lr": "learning_rate",
        "lr_schedule": "lr_scheduler_type",
        "batch": "batch_size",
        "micro_batch": "micro_batch_size",
    }

    response: str = "response"
    """Column with the assistant's response, thought and answer in one text."""
    epochs: float = Field(2.0, gt=0)
    """Passes over the data."""
    learning_rate: float = Field(5e-5, gt=0)
    """Peak learning rate."""
    lr_scheduler_type: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls."""
    lr_min_ratio: float = Field(0.1, ge=0, le=1)
    """Where the cosine ends, as a fraction of learning_rate."""
    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    """Fraction of the updates that are linear warm-up."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay of AdamW, applied to matrices only."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients with a larger norm are clipped to it."""
    batch_size: int = Field(128, ge=1)
    """Rows per update, over all processes; with packing each row holds up to max_tokens of several examples."""
    micro_batch_size: int = Field(1, ge=1)
    """Rows per forward pass of one process."""
    max_tokens: int = Field(2048, ge=16)
    """Longest example, prompt included; longer ones are left out and counted."""
    packing: bool = True
    """Fill rows with several whole examples, which do not attend to each other."""
    checkpoint_every: int = Field(200, ge=0)
    """Updates between checkpoints; 0 saves none, and a run that is killed restarts the stage."""

"""Exporting a model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from r1rl.config.base import Section


class ExportConfig(Section):
    """A folder that transformers and ``vllm serve`` open."""

    folder: str | None = None
    """Where to write it; None takes RUN/STAGE/model."""
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Precision of the weights on disk."""
    chat_template: bool = True
    """If the tokenizer has no chat template, add one that writes the prompts used in training."""
    max_shard_gb: float = Field(5.0, gt=0)
    """Size limit of each weight file, GB."""

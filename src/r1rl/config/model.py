"""Which policy is trained, and how its weights are held."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from r1rl.config.base import Section


class LoraConfig(Section):
    """Low-rank adapters through peft; the reference policy is the model with the adapters off."""

    rank: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: str | list[str] = "all-linear"


class ModelConfig(Section):
    """The policy: any causal language model that transformers opens."""

    path: str = ""
    """A Hugging Face name, a local folder, or the name of an earlier stage of the run."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the forward and backward pass; master weights and optimizer states stay float32."""
    trust_remote_code: bool = False
    """Run Python code that comes with a checkpoint. Off unless you have read that code."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more arithmetic."""
    lora: LoraConfig | None = None
    """Train adapters instead of the whole model."""


class TinyModelConfig(Section):
    """The Qwen2-architecture model that the pretrain stage builds."""

    hidden_size: int = Field(128, ge=8)
    layers: int = Field(4, ge=1)
    heads: int = Field(4, ge=1)
    kv_heads: int = Field(2, ge=1)
    intermediate_size: int = Field(512, ge=8)
    max_positions: int = Field(1024, ge=16)
    tie_embeddings: bool = True

"""Which policy is trained, and how its weights are held."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from r1rl.config.base import Section


class LoraConfig(Section):
    """Low-rank adapters through peft; the reference policy is the model with the adapters off."""

    rank: int = Field(16, ge=1)
    """Columns of the two factors."""
    alpha: int = Field(32, ge=1)
    """The update is scaled by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the adapters' inputs; above 0, grpo needs an extra forward pass for π_old, which has none."""
    target_modules: str | list[str] = "all-linear"
    """Names of the layers that get adapters, or all-linear."""
    quantize: bool = False
    """QLoRA: the frozen weights in 4 bits (bitsandbytes). Tried on the CPU, not yet on a GPU. Stages of kind sft and
    reward_model ignore it."""


class ModelConfig(Section):
    """The policy: any causal language model that transformers opens."""

    path: str = ""
    """A Hugging Face name, a local folder (``~`` is the home folder), or the name of an earlier stage of the run."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the forward and backward pass; master weights and optimizer states stay float32."""
    cast_lm_head_to_fp32: bool = True
    """Compute logits in float32 also where dtype is bfloat16, in the learner, the reference and the engine: rounded
    logits cause most of the difference between engine and learner."""
    trust_remote_code: bool = False
    """Run Python code that comes with a checkpoint. Leave it off unless you have read that code."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more computation."""
    lora: LoraConfig | None = None
    """Train adapters instead of the whole model."""

    @field_validator("path")
    @classmethod
    def _home(cls, path: str) -> str:
        return str(Path(path).expanduser()) if path.startswith("~") else path


TINY_VOCABULARY = 384
"""Maximum vocabulary of the tokenizer that a pretrain stage builds, tokens."""


class TinyModelConfig(Section):
    """The Qwen2-architecture model that the pretrain stage builds."""

    hidden_size: int = Field(128, ge=8)
    """Width of the residual stream."""
    layers: int = Field(4, ge=1)
    """Transformer blocks."""
    heads: int = Field(4, ge=1)
    """Query heads; must divide hidden_size."""
    kv_heads: int = Field(2, ge=1)
    """Key-value heads; must divide heads."""
    intermediate_size: int = Field(512, ge=8)
    """Width inside the feed-forward layers."""
    max_positions: int = Field(1024, ge=16)
    """Longest sequence, in tokens."""
    tie_embeddings: bool = True
    """Input and output embeddings are one matrix."""

"""The output head: hidden states to logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from r1rl.errors import ModelError


def body_and_head(model: PreTrainedModel) -> tuple[nn.Module, nn.Module]:
    """The transformer without its head, and the head (hidden states → logits)."""
    head = model.get_output_embeddings()
    if head is None:
        raise ModelError(f"{type(model).__name__} has no output head: is it a causal language model?")
    body = model.get_decoder()
    if body is model:
        raise ModelError(f"{type(model).__name__} does not separate its body from its head")
    return body, head


def softcap(logits: Tensor, model: PreTrainedModel) -> Tensor:
    """Apply the final soft cap of the models that have one (Gemma)."""
    cap = getattr(model.config, "final_logit_softcapping", None)
    return logits if cap is None else torch.tanh(logits / cap) * cap

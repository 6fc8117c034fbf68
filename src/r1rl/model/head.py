"""The output head: hidden states to logits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
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


def head_function(head: nn.Module, fp32: bool) -> Callable[[Tensor], Tensor]:
    """The head as a function of hidden states [..., E], which may be called chunk by chunk.

    Args:
        fp32: compute logits in float32, also under autocast. Logits rounded to bfloat16 are the largest difference
            between a learner and an engine (MiniMax-M1, arXiv 2506.13585, section 3.2; ScaleRL, arXiv 2510.13786).
            Weights of lower precision are converted once, here.
    """
    if type(head) is not nn.Linear:
        exact = fp32 and all(p.dtype == torch.float32 for p in head.parameters())
        return partial(_exact_module, head) if exact else head
    if not fp32:
        return partial(F.linear, weight=head.weight, bias=head.bias)
    return partial(_exact_linear, head.weight.float(), None if head.bias is None else head.bias.float())


def _exact_linear(weight_VE: Tensor, bias_V: Tensor | None, hidden: Tensor) -> Tensor:
    with torch.autocast(hidden.device.type, enabled=False):
        return F.linear(hidden.float(), weight_VE, bias_V)


def _exact_module(head: nn.Module, hidden: Tensor) -> Tensor:
    with torch.autocast(hidden.device.type, enabled=False):
        logits: Tensor = head(hidden.float())
        return logits


def cap_of(model: PreTrainedModel) -> float | None:
    """The model's bound on its logits, if it has one (Gemma)."""
    return getattr(model.config, "final_logit_softcapping", None)


def softcap(logits: Tensor, cap: float | None) -> Tensor:
    """Logits bounded to (−cap, cap); unchanged where ``cap`` is None."""
    return logits if cap is None else torch.tanh(logits / cap) * cap

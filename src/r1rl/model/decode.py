"""The forward pass of one new token per sequence, with fewer and larger operations than the model's own modules use.

While decoding, a model of a few million parameters spends as much time between its matrix products as in them: queries,
keys and values are three small products, gate and up two more, and every norm is six operations. Here each of these is
a single operation. On two CPU cores this reduces sampling from 2.3 s to 1.8 s (docs/log.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from r1rl.model.attention import Layout

ARCHITECTURES = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""``model_type`` of the supported models; others decode through their own modules."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """One layer's modules, and its concatenated projections."""

    index: int
    module: Any
    qkv: Tensor
    qkv_bias: Tensor | None
    gate_up: Tensor
    gate_up_bias: Tensor | None


class FusedBody:
    """A model's body for one token per sequence, on copies of some of its weights: built for one call of the sampler
    and discarded after it, so that it neither becomes stale nor occupies memory during the update.

    Args:
        body: the transformer without its head, in evaluation mode.
        dtype: of the concatenated weights; the one autocast would use, so that it has nothing to cast.
    """

    def __init__(self, body: Any, dtype: torch.dtype | None) -> None:
        self.body = body
        self.layers = [_join(i, layer, dtype) for i, layer in enumerate(body.layers)]

    def __call__(self, ids_B: Tensor, positions_B: Tensor, layout: Layout) -> Tensor:
        """Hidden states after the final norm, [B, E]."""
        x_BE = self.body.embed_tokens(ids_B)
        cos, sin = self.body.rotary_emb(x_BE[:, None], positions_B[:, None])
        half = sin.shape[-1] // 2
        sin = torch.cat((-sin[..., :half], sin[..., half:]), -1)
        for layer in self.layers:
            x_BE = x_BE + _attention(layer, _norm(layer.module.input_layernorm, x_BE), cos, sin, layout)
            x_BE = x_BE + _mlp(layer, _norm(layer.module.post_attention_layernorm, x_BE))
        return _norm(self.body.norm, x_BE)


def fused_body(model: PreTrainedModel, dtype: torch.dtype | None) -> FusedBody | None:
    """The faster body, or None for a model with other layers (adapters, quantized weights)."""
    if model.config.model_type not in ARCHITECTURES:
        return None
    body: Any = model.get_decoder()
    if not all(type(linear) is nn.Linear for layer in body.layers for linear in _linears(layer)):
        return None
    return FusedBody(body, dtype)


def _linears(layer: Any) -> list[nn.Module]:
    attention, mlp = layer.self_attn, layer.mlp
    return [attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj]


def _join(index: int, layer: Any, dtype: torch.dtype | None) -> _Layer:
    q, k, v, gate, up = _linears(layer)
    return _Layer(index, layer, *_rows([q, k, v], dtype), *_rows([gate, up], dtype))


def _rows(linears: list[Any], dtype: torch.dtype | None) -> tuple[Tensor, Tensor | None]:
    """Weights and biases of several projections of the same input, concatenated along the output."""
    weight = torch.cat([linear.weight.detach() for linear in linears]).to(dtype)
    if linears[0].bias is None:
        return weight, None
    return weight, torch.cat([linear.bias.detach() for linear in linears]).to(dtype)


def _norm(norm: Any, x_BE: Tensor) -> Tensor:
    return F.rms_norm(x_BE, (x_BE.shape[-1],), norm.weight, norm.variance_epsilon)


def _attention(layer: _Layer, x_BE: Tensor, cos_B1D: Tensor, sin_B1D: Tensor, layout: Layout) -> Tensor:
    attention = layer.module.self_attn
    width = attention.head_dim
    heads = attention.q_proj.out_features // width
    kv_heads = attention.k_proj.out_features // width
    qkv_BHD = F.linear(x_BE, layer.qkv, layer.qkv_bias).view(len(x_BE), -1, width)
    qk_BHD, v_BKD = qkv_BHD.split([heads + kv_heads, kv_heads], 1)
    if hasattr(attention, "q_norm"):
        q_BHD, k_BKD = qk_BHD.split([heads, kv_heads], 1)
        qk_BHD = torch.cat((attention.q_norm(q_BHD), attention.k_norm(k_BKD)), 1)
    left, right = qk_BHD.chunk(2, -1)
    qk_BHD = torch.addcmul(qk_BHD * cos_B1D, torch.cat((right, left), -1), sin_B1D)  # RoPE, arXiv 2104.09864
    qk_BHD = qk_BHD.to(v_BKD.dtype)  # rotated in float32, as by the model's own modules
    q_BHD, k_BKD = qk_BHD.split([heads, kv_heads], 1)
    out = layout.attend(layer.index, q_BHD[:, :, None], k_BKD[:, :, None], v_BKD[:, :, None], attention.scaling)
    out_BE: Tensor = attention.o_proj(out.reshape(len(x_BE), -1))
    return out_BE


def _mlp(layer: _Layer, x_BE: Tensor) -> Tensor:
    mlp = layer.module.mlp
    gate, up = F.linear(x_BE, layer.gate_up, layer.gate_up_bias).chunk(2, -1)
    out_BE: Tensor = mlp.down_proj(mlp.act_fn(gate).mul_(up))
    return out_BE

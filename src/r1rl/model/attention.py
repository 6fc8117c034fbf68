"""Attention over packed sequences, and over the embedded engine's key-value cache, for any transformers model.

One function is registered with transformers under the name ``r1rl``. What it does is decided by the ``layout``
keyword that the caller passes to the model's forward: :class:`Packed` for learning, the layouts of
``r1rl.rollout.kv`` for decoding. transformers builds no mask for an unknown attention function, so the boundaries
between sequences come from the layout alone and nothing can leak through a mask or a cache.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from r1rl.errors import ModelError
from r1rl.model.device import pass_dtype, upload

NAME = "r1rl"
_WITHOUT_EFFECT = frozenset(
    {
        "dropout",  # a policy samples and learns without dropout
        "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx",  # decided by the layout
        "position_ids", "cache_position", "use_cache", "return_dict",
        "output_attentions", "output_hidden_states", "output_router_logits",
        "labels", "shift_labels", "num_items_in_batch", "logits_to_keep",
    }
)  # fmt: skip
"""Keywords that models pass to their attention and that have no effect here."""


class UnpassedLayout(ModelError):
    """Raised when the attention is called without a layout."""


class Layout(Protocol):
    """How the tokens of one forward pass are arranged in sequences."""

    def attend(self, layer: int, q_BHTD: Tensor, k_BKTD: Tensor, v_BKTD: Tensor, scale: float) -> Tensor:
        """Attention output as [B, T, H, D]; H query heads share K key-value heads."""


@dataclass(slots=True)
class Packed:
    """Sequences concatenated in one row; each attends only to itself, causally. Made once per forward pass: all layers
    use the same boundaries on the device."""

    lengths: tuple[int, ...]
    _bounds: Tensor | None = field(default=None, repr=False, compare=False)

    def attend(self, layer: int, q_BHTD: Tensor, k_BKTD: Tensor, v_BKTD: Tensor, scale: float) -> Tensor:
        del layer
        if q_BHTD.is_cuda and q_BHTD.dtype != torch.float32:
            return _varlen(q_BHTD, k_BKTD, v_BKTD, self.bounds(q_BHTD.device), max(self.lengths), scale)
        return _per_sequence(q_BHTD, k_BKTD, v_BKTD, self.lengths, scale)

    def bounds(self, device: torch.device) -> Tensor:
        """[S + 1] int32: where each of S sequences begins, and where the last one ends."""
        if self._bounds is None or self._bounds.device != device:
            self._bounds = upload(torch.tensor([0, *accumulate(self.lengths)], dtype=torch.int32), device)
        return self._bounds


class Shared:
    """Sequences with a common prefix, which is stored once in the row, as its keys and values are the same for all.

    Linear layers then process a group's prompt once instead of G times. Attention is computed on whole sequences,
    concatenated from their pieces; it is the smaller part of the cost and needs no special kernel.

    Args:
        pieces: lengths of the row's pieces, tokens.
        sequences: each sequence's pieces, in order, as indices into ``pieces``.
    """

    def __init__(self, pieces: Sequence[int], sequences: Sequence[Sequence[int]]) -> None:
        self.pieces = pieces
        self.order = [piece for sequence in sequences for piece in sequence]
        self.joined = [pieces[piece] for piece in self.order]
        self.whole = Packed(tuple(sum(pieces[piece] for piece in sequence) for sequence in sequences))
        # By causality a shared piece's output is the same in every sequence; the first one's is taken.
        place = {piece: at for at, piece in reversed(list(enumerate(self.order)))}
        self.first = [place[piece] for piece in range(len(pieces))]

    def attend(self, layer: int, q_BHTD: Tensor, k_BKTD: Tensor, v_BKTD: Tensor, scale: float) -> Tensor:
        q, k, v = (_join(x, self.pieces, self.order, 2) for x in (q_BHTD, k_BKTD, v_BKTD))
        return _join(self.whole.attend(layer, q, k, v, scale), self.joined, self.first, 1)


def _join(x: Tensor, pieces: Sequence[int], order: Sequence[int], dim: int) -> Tensor:
    parts = x.split(list(pieces), dim)
    return torch.cat([parts[i] for i in order], dim)


def _per_sequence(q_BHTD: Tensor, k_BKTD: Tensor, v_BKTD: Tensor, lengths: Sequence[int], scale: float) -> Tensor:
    """Exact on every device and dtype: one fused attention call per sequence. ``split`` keeps the backward pass linear
    in time."""
    gqa = q_BHTD.shape[1] != k_BKTD.shape[1]
    sizes = list(lengths)
    rows = zip(q_BHTD.split(sizes, 2), k_BKTD.split(sizes, 2), v_BKTD.split(sizes, 2), strict=True)
    outs = [
        F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=gqa).transpose(1, 2)
        for q, k, v in rows
    ]
    return torch.cat(outs, 1)


def _varlen(q_BHTD: Tensor, k_BKTD: Tensor, v_BKTD: Tensor, bounds: Tensor, longest: int, scale: float) -> Tensor:
    """One kernel for all sequences (torch's FlashAttention); half precision on CUDA only."""
    width, out_width = q_BHTD.shape[-1], v_BKTD.shape[-1]
    if out_width < width:  # latent attention (DeepSeek): the kernel has one width for all three
        v_BKTD = F.pad(v_BKTD, (0, width - out_width))
    q_THD, k_TKD, v_TKD = (x.squeeze(0).transpose(0, 1) for x in (q_BHTD, k_BKTD, v_BKTD))
    if k_TKD.shape[1] != q_THD.shape[1] and "enable_gqa" not in _varlen_parameters():
        repeat = q_THD.shape[1] // k_TKD.shape[1]
        k_TKD, v_TKD = k_TKD.repeat_interleave(repeat, 1), v_TKD.repeat_interleave(repeat, 1)
    out_THD: Tensor = _varlen_kernel()(
        q_THD, k_TKD, v_TKD, bounds, bounds, longest, longest, **_varlen_options(scale, width)
    )
    return out_THD[None] if out_width == width else out_THD[None, ..., :out_width]


def _varlen_kernel() -> Callable[..., Any]:
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn


@cache
def _varlen_parameters() -> frozenset[str]:
    return frozenset(inspect.signature(_varlen_kernel()).parameters)


def _varlen_options(scale: float, head_dim: int) -> dict[str, Any]:
    """Causality and grouped heads have different argument names in torch 2.11 to 2.13."""
    known = _varlen_parameters()
    options: dict[str, Any] = {"window_size": (-1, 0)} if "window_size" in known else {"is_causal": True}
    if "enable_gqa" in known:
        options["enable_gqa"] = True
    if "scale" in known:
        options["scale"] = scale
    elif abs(scale - head_dim**-0.5) > 1e-9:
        raise ModelError(
            "this model scales attention in a way that torch's varlen kernel of this version cannot: "
            "use torch 2.13 or later, or model.dtype: float32"
        )
    return options


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Layout | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    is_causal: bool | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    if layout is None or attention_mask is not None:
        raise UnpassedLayout("r1rl's attention was called without a layout: load the checkpoint again for other uses")
    if sliding_window is not None or softcap is not None:
        raise ModelError("this model uses sliding-window or soft-capped attention, which r1rl does not support")
    if is_causal is False:
        raise ModelError("this model's attention is not causal, which r1rl does not support")
    given = {name for name, value in others.items() if value is not None and value is not False}
    unknown = sorted(given - _WITHOUT_EFFECT)
    if unknown:
        raise ModelError(f"this model's attention takes {', '.join(unknown)}, which r1rl does not support")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    # Rotated queries and keys of float32 weights are float32 under autocast too, where only half precision has a kernel
    # for all sequences at once.
    dtype = pass_dtype(value)
    q, k, v = query.to(dtype), key.to(dtype), value.to(dtype)
    return layout.attend(module.layer_idx, q, k, v, scale), None  # type: ignore[arg-type]


def register() -> str:
    """Register the attention with transformers; returns the name to load models with."""
    AttentionInterface.register(NAME, _attention)
    return NAME


def positions(lengths: Sequence[int], device: torch.device) -> Tensor:
    """[1, T] int64 positions of packed sequences: 0, 1, … in each."""
    return torch.cat([torch.arange(n, device=device) for n in lengths])[None]

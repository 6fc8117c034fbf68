"""Keys and values of the sequences being decoded, one slot per sequence, and the attention over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from r1rl.model.attention import Packed

GROW = 64
"""Positions are added in multiples of this, so that growing (a copy) stays rare and short sequences stay small."""


@dataclass(slots=True)
class Prefill:
    """Packed prompts: attends like the learner and keeps each layer's keys and values."""

    lengths: tuple[int, ...]
    kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Layer → (keys, values), each [K, T, D]."""
    packed: Packed = field(init=False)

    def __post_init__(self) -> None:
        self.packed = Packed(self.lengths)

    def attend(self, layer: int, q_BHTD: Tensor, k_BKTD: Tensor, v_BKTD: Tensor, scale: float) -> Tensor:
        self.kept[layer] = (k_BKTD[0], v_BKTD[0])
        return self.packed.attend(layer, q_BHTD, k_BKTD, v_BKTD, scale)


class Slots:
    """The cache: per layer keys and values [B, K, P, D], B slots, P positions.

    Row b is valid up to ``lengths[b]``; the slots of finished sequences are reused or dropped.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}
        self.lengths = torch.zeros(0, dtype=torch.int64, device=device)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def bytes(self) -> int:
        return sum(k.nbytes + v.nbytes for k, v in self.layers.values())

    def append(self, prefill: Prefill, copies: Sequence[int]) -> None:
        """Add ``copies[i]`` slots that all start with prompt i of ``prefill``."""
        capacity = self._round(max(prefill.lengths))
        for layer, (k_KTD, v_KTD) in prefill.kept.items():
            new = tuple(_spread(x, prefill.lengths, copies, capacity) for x in (k_KTD, v_KTD))
            if layer in self.layers and len(self):
                old = tuple(_grow(x, capacity) for x in self.layers[layer])
                new = tuple(torch.cat([o, _grow(n, o.shape[2])]) for o, n in zip(old, new, strict=True))
            self.layers[layer] = (new[0], new[1])
        added = torch.tensor(prefill.lengths).repeat_interleave(torch.tensor(copies)).to(self.device)
        self.lengths = torch.cat([self.lengths, added])

    def keep(self, rows: Tensor) -> None:
        """Drop every slot but ``rows``, and the positions that no kept row uses."""
        self.lengths = self.lengths[rows]
        used = self._round(int(self.lengths.max())) if len(rows) else 0
        for i, (k, v) in self.layers.items():  # one layer at a time, so that two whole caches never exist at once
            self.layers[i] = (k[rows, :, :used], v[rows, :, :used])

    def step(self) -> Decode:
        """The layout of a forward pass of one new token per slot; it claims the next position of every row."""
        longest = int(self.lengths.max()) + 1
        if self.layers and longest > next(iter(self.layers.values()))[0].shape[2]:
            capacity = self._round(longest + longest // 4)
            for i, (k, v) in self.layers.items():
                self.layers[i] = (_grow(k, capacity), _grow(v, capacity))
        decode = Decode(self.layers, self.lengths, longest)
        self.lengths = self.lengths + 1
        return decode

    @staticmethod
    def _round(positions: int) -> int:
        return -(-positions // GROW) * GROW


class Decode:
    """One new token per row: written to the cache at its position, then attends to its row up to there.

    The query heads of one key-value head are laid along the query axis, so keys and values need not be repeated for
    each of them.
    """

    def __init__(self, layers: dict[int, tuple[Tensor, Tensor]], lengths_B: Tensor, longest: int) -> None:
        self.layers = layers
        self.at_B = lengths_B
        self.longest = longest
        self.rows_B = torch.arange(len(lengths_B), device=lengths_B.device)
        places = torch.arange(longest, device=lengths_B.device)
        self.mask_B11P = (places[None] <= lengths_B[:, None])[:, None, None]

    @cached_property
    def bias_N1P(self) -> Tensor:
        """The mask as summands for N = B·K pairs of row and key-value head, the same in every layer."""
        kv_heads = next(iter(self.layers.values()))[0].shape[1]
        dtype = next(iter(self.layers.values()))[0].dtype
        bias_B1P = torch.zeros(self.mask_B11P.shape, dtype=dtype, device=self.mask_B11P.device)[:, 0]
        return bias_B1P.masked_fill_(~self.mask_B11P[:, 0], -torch.inf).repeat_interleave(kv_heads, 0)

    def attend(self, layer: int, q_BHTD: Tensor, k_BKTD: Tensor, v_BKTD: Tensor, scale: float) -> Tensor:
        keys, values = self.layers[layer]
        keys[self.rows_B, :, self.at_B] = k_BKTD[:, :, 0]
        values[self.rows_B, :, self.at_B] = v_BKTD[:, :, 0]
        batch, heads, _, width = q_BHTD.shape
        out_width = values.shape[3]  # not the queries' in latent attention (DeepSeek)
        kv_heads = keys.shape[1]
        q_BKGD = q_BHTD.reshape(batch, kv_heads, heads // kv_heads, width)
        k_BKPD, v_BKPD = keys[:, :, : self.longest], values[:, :, : self.longest]
        if not q_BHTD.is_cuda:
            out = _two_products(q_BKGD, k_BKPD, v_BKPD, self.bias_N1P, scale)
        else:
            out = F.scaled_dot_product_attention(q_BKGD, k_BKPD, v_BKPD, attn_mask=self.mask_B11P, scale=scale)
        return out.reshape(batch, 1, heads, out_width)


def _two_products(q_BKGD: Tensor, k_BKPD: Tensor, v_BKPD: Tensor, bias_N1P: Tensor, scale: float) -> Tensor:
    """For the CPU, whose fused kernel is made for many queries per sequence: a quarter faster for caches of up to a few
    hundred positions, as fast for longer ones."""
    bias_NGP = bias_N1P.expand(-1, q_BKGD.shape[2], -1)
    scores = torch.baddbmm(bias_NGP, q_BKGD.flatten(0, 1), k_BKPD.flatten(0, 1).transpose(1, 2), alpha=scale)
    out_BKGD: Tensor = torch.bmm(scores.softmax(-1), v_BKPD.flatten(0, 1)).unflatten(0, q_BKGD.shape[:2])
    return out_BKGD


def _grow(x_BKPD: Tensor, capacity: int) -> Tensor:
    missing = capacity - x_BKPD.shape[2]
    return F.pad(x_BKPD, (0, 0, 0, missing)) if missing > 0 else x_BKPD


def _spread(x_KTD: Tensor, lengths: Sequence[int], copies: Sequence[int], capacity: int) -> Tensor:
    """[K, T, D] packed prompts → [sum(copies), K, capacity, D]."""
    out = x_KTD.new_zeros(sum(copies), x_KTD.shape[0], capacity, x_KTD.shape[2])
    row = 0
    for prompt, copy in zip(x_KTD.split(list(lengths), 1), copies, strict=True):
        out[row : row + copy, :, : prompt.shape[1]] = prompt
        row += copy
    return out

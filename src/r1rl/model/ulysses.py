"""Sequence parallelism: the ranks of a team each hold a slice of the same row of tokens (Ulysses, arXiv 2309.14509).

Everything in a layer except attention is computed per token. Before attention an all-to-all exchange turns slices of
tokens into slices of heads, so that each rank attends over all tokens with its share of the heads; a second one
reverses it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import gcd
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from r1rl.errors import ConfigError
from r1rl.model.attention import Layout


class Team:
    """A team of P ranks that compute each row together.

    Args:
        rank: of this process within the team.
        group: of the team's processes.
    """

    def __init__(self, rank: int, size: int, group: dist.ProcessGroup) -> None:
        self.rank, self.size, self.group = rank, size, group

    def __deepcopy__(self, memo: dict[int, Any]) -> Team:
        return self  # a copy of the model is computed by the same processes

    @classmethod
    def form(cls, size: int, rank: int, ranks: int, heads: int, kv_heads: int) -> Team | None:
        """Make teams of adjacent ranks; None if ``size`` is 1. Collective.

        Args:
            heads, kv_heads: numbers of query and key-value heads of the model.

        Raises:
            ConfigError: ``size`` does not divide the number of processes, or the heads.
        """
        if size == 1:
            return None
        if ranks % size:
            raise ConfigError(f"grpo.sequence_parallel {size} does not divide the run's {ranks} processes")
        if heads % (kv_heads * _copies(kv_heads, size)):
            raise ConfigError(
                f"grpo.sequence_parallel {size}: the model's {heads} heads with {kv_heads} key-value heads cannot be "
                f"shared by {size} ranks; use a number that divides {heads}"
            )
        groups = [dist.new_group(list(range(first, first + size))) for first in range(0, ranks, size)]
        group = groups[rank // size]
        assert group is not None
        return cls(rank % size, size, group)

    def width(self, tokens: int) -> int:
        """Tokens per slice; the last slices may extend beyond the row."""
        return -(-tokens // self.size)

    def slice(self, x_T: Tensor) -> Tensor:
        """This rank's slice of a row, padded with zeros."""
        width = self.width(len(x_T))
        return F.pad(x_T, (0, width * self.size - len(x_T)))[self.rank * width : (self.rank + 1) * width]

    def heads(self, x_BHtD: Tensor) -> Tensor:
        """All heads of a slice of tokens → a share of the heads of all tokens: [1, H, t, D] → [1, H/P, P·t,
        D]."""
        _, heads, t, width = x_BHtD.shape
        x_PHtD = _exchanged(x_BHtD.reshape(self.size, heads // self.size, t, width), self.group)
        return x_PHtD.transpose(0, 1).reshape(1, heads // self.size, self.size * t, width)

    def tokens(self, x_BTHD: Tensor) -> Tensor:
        """The inverse: [1, P·t, H/P, D] → [1, t, H, D]."""
        _, tokens, heads, width = x_BTHD.shape
        x_PtHD = _exchanged(x_BTHD.reshape(self.size, tokens // self.size, heads, width), self.group)
        return x_PtHD.transpose(0, 1).reshape(1, tokens // self.size, self.size * heads, width)

    def join(self, values_M: Tensor, mine_C: Tensor) -> Tensor:
        """The values of all ranks at their positions, [C], on every rank.

        Each rank then computes the same loss from them, so the gradient of a value is returned once, to the rank it
        came from; parameters then hold each rank's share of their gradient.

        Args:
            mine_C: positions of this rank's ``values_M``, bool.
        """
        return _summed(values_M.new_zeros(len(mine_C)).masked_scatter(mine_C, values_M), self.group)


@dataclass(frozen=True, slots=True)
class Split:
    """A layout of T tokens that are split over the team; this rank has one slice."""

    whole: Layout
    tokens: int
    team: Team

    def attend(self, layer: int, q_BHTD: Tensor, k_BKTD: Tensor, v_BKTD: Tensor, scale: float) -> Tensor:
        size = self.team.size
        copies = _copies(k_BKTD.shape[1], size)
        k_BKTD, v_BKTD = (x.repeat_interleave(copies, 1) if copies > 1 else x for x in (k_BKTD, v_BKTD))
        counts = [x.shape[1] // size for x in (q_BHTD, k_BKTD, v_BKTD)]
        # One exchange for all three, grouped by receiving rank.
        shares = [x.unflatten(1, (size, -1)) for x in (q_BHTD, k_BKTD, v_BKTD)]
        joined = self.team.heads(torch.cat(shares, 2).flatten(1, 2))[:, :, : self.tokens]
        q_BHTD, k_BKTD, v_BKTD = joined.split(counts, 1)
        out_BTHD = self.whole.attend(layer, q_BHTD, k_BKTD, v_BKTD, scale)
        filling = self.team.width(self.tokens) * size - self.tokens
        return self.team.tokens(F.pad(out_BTHD, (0, 0, 0, 0, 0, filling)))


def _copies(kv_heads: int, size: int) -> int:
    """How often each key-value head is repeated so that the ranks can share them."""
    return size // gcd(kv_heads, size)


class _Exchange(torch.autograd.Function):
    """[P, …] → [P, …]: sends part i to rank i and receives rank i's in its place. Its own transpose."""

    @staticmethod
    def forward(ctx: Any, x_P: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return _exchange(x_P, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _exchange(grads[0], ctx.group), None


def _exchange(x_P: Tensor, group: dist.ProcessGroup) -> Tensor:
    x_P = x_P.contiguous()
    out_P = torch.empty_like(x_P)
    dist.all_to_all_single(out_P, x_P, group=group)
    return out_P


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        total = x.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


# torch does not type ``apply``.
_exchanged: Callable[[Tensor, dist.ProcessGroup], Tensor] = _Exchange.apply
_summed: Callable[[Tensor, dist.ProcessGroup], Tensor] = _Sum.apply

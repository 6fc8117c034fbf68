"""From logits to a token: temperature, top-k, top-p, and one random number per row."""

from __future__ import annotations

import torch
from torch import Tensor

from r1rl.types import SamplingParams


def choose(logits_BV: Tensor, uniforms_B: Tensor, params: SamplingParams) -> tuple[Tensor, Tensor]:
    """Sample by inverse transform, so that a row's token depends on its own logits and random number alone.

    Args:
        logits_BV: [B, V] of any float type.
        uniforms_B: [B] in (0, 1].

    Returns:
        token ids [B] int64, and their log-probabilities [B] float32 under the distribution sampled from. Greedy
        choices (temperature 0) report the log-probability at temperature 1.
    """
    if params.temperature == 0:
        logps_BV = logits_BV.float().log_softmax(-1)
        best = logps_BV.max(-1)
        return best.indices, best.values
    logps_BV = (logits_BV.float() / params.temperature).log_softmax(-1)
    if params.top_k or params.top_p < 1:
        logps_BV = truncate(logps_BV, params).log_softmax(-1)
    cumulative_BV = logps_BV.exp().cumsum(-1)
    threshold_B1 = (uniforms_B.to(cumulative_BV.dtype) * cumulative_BV[:, -1])[:, None]
    tokens_B = torch.searchsorted(cumulative_BV, threshold_B1)[:, 0]
    return tokens_B, logps_BV.gather(-1, tokens_B[:, None])[:, 0]


def truncate(logps_BV: Tensor, params: SamplingParams) -> Tensor:
    """Set what top-k and top-p leave out to −inf; the most probable token always stays."""
    if params.top_k and params.top_k < logps_BV.shape[-1]:
        kth = logps_BV.topk(params.top_k, -1).values[:, -1:]
        logps_BV = logps_BV.masked_fill(logps_BV < kth, -torch.inf)
    if params.top_p < 1:
        ordered, order = logps_BV.sort(-1, descending=True)
        probabilities = ordered.softmax(-1)
        outside = probabilities.cumsum(-1) - probabilities >= params.top_p
        logps_BV = logps_BV.masked_fill(outside.scatter(-1, order, outside), -torch.inf)
    return logps_BV

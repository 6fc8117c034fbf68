"""The kernels of :mod:`r1rl.model.logprobs` in Triton: a program reads a row of logits once, in blocks."""

# mypy: disable-error-code="untyped-decorator, no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 4096
"""Logits in registers at once."""
WARPS = 8


@triton.jit
def statistics_kernel(
    logits_ptr, targets_ptr, logps_ptr, lse_ptr, entropy_ptr, V, scale,
    ENTROPY: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Online softmax (arXiv 1805.02867) over one row: log-sum-exp, and Σ p·z for the entropy."""
    row = tl.program_id(0).to(tl.int64)
    logits_ptr += row * V
    top = -float("inf")
    total = 0.0
    weighted = 0.0
    for start in range(0, V, BLOCK):
        at = start + tl.arange(0, BLOCK)
        z = tl.load(logits_ptr + at, mask=at < V, other=-float("inf")).to(tl.float32) * scale
        new = tl.maximum(top, tl.max(z, 0))
        shrink = tl.exp(top - new)
        p = tl.exp(z - new)
        total = total * shrink + tl.sum(p, 0)
        if ENTROPY:
            weighted = weighted * shrink + tl.sum(tl.where(p > 0, p * z, 0.0), 0)
        top = new
    lse = top + tl.log(total)
    chosen = tl.load(logits_ptr + tl.load(targets_ptr + row)).to(tl.float32) * scale
    tl.store(logps_ptr + row, chosen - lse)
    tl.store(lse_ptr + row, lse)
    if ENTROPY:
        tl.store(entropy_ptr + row, lse - weighted / total)


@triton.jit
def gradient_kernel(
    logits_ptr, targets_ptr, lse_ptr, grad_ptr, entropy_ptr, entropy_grad_ptr, V, scale,
    ENTROPY: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Overwrites one block of a row with its gradient."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    logits_ptr += row * V
    stored = tl.load(logits_ptr + at, mask=at < V, other=-float("inf"))
    log_p = stored.to(tl.float32) * scale - tl.load(lse_ptr + row)
    p = tl.exp(log_p)
    target = tl.load(targets_ptr + row)
    d = tl.load(grad_ptr + row) * (tl.where(at == target, 1.0, 0.0) - p)
    if ENTROPY:
        slope = tl.where(p > 0, p * (log_p + tl.load(entropy_ptr + row)), 0.0)
        d -= tl.load(entropy_grad_ptr + row) * slope
    tl.store(logits_ptr + at, (d * scale).to(stored.dtype), mask=at < V)


def statistics(logits_CV: Tensor, targets_C: Tensor, scale: float, entropy: bool) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`r1rl.model.logprobs.statistics`."""
    count, vocabulary = logits_CV.shape
    logps_C, lse_C = (logits_CV.new_empty(count, dtype=torch.float32) for _ in range(2))
    entropy_C = logits_CV.new_empty(count if entropy else 0, dtype=torch.float32)
    if not count:
        return logps_C, lse_C, entropy_C
    statistics_kernel[(count,)](
        logits_CV, targets_C, logps_C, lse_C, entropy_C, vocabulary, scale,
        ENTROPY=entropy, BLOCK=BLOCK, num_warps=WARPS,
    )  # fmt: skip
    return logps_C, lse_C, entropy_C


def gradient_(
    logits_CV: Tensor,
    targets_C: Tensor,
    lse_C: Tensor,
    grad_C: Tensor,
    scale: float,
    entropy_C: Tensor | None,
    entropy_grad_C: Tensor | None,
) -> None:
    """See :func:`r1rl.model.logprobs.gradient`; overwrites ``logits_CV``."""
    count, vocabulary = logits_CV.shape
    if not count:
        return
    through_entropy = entropy_C is not None and entropy_grad_C is not None
    unused = lse_C
    gradient_kernel[(count, triton.cdiv(vocabulary, BLOCK))](
        logits_CV, targets_C, lse_C, grad_C.contiguous(),
        unused if entropy_C is None else entropy_C, unused if entropy_grad_C is None else entropy_grad_C.contiguous(),
        vocabulary, scale, ENTROPY=through_entropy, BLOCK=BLOCK, num_warps=WARPS,
    )  # fmt: skip

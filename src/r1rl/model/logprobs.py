"""Log-probability of one token per row of logits, and the row's entropy: one pass over the vocabulary, and one back.

On a GPU with Triton each pass is one kernel that reads the logits once; elsewhere the same is computed by torch in
place. Everything is float32, whatever the logits are.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def statistics(logits_CV: Tensor, targets_C: Tensor, scale: float, entropy: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Of the distributions softmax(scale · logits).

    Args:
        logits_CV: [C, V] of any float type, contiguous; their content is undefined afterwards.
        targets_C: [C] int64.

    Returns:
        log-probabilities of the targets, log-sum-exp, and entropies in nats ([0] unless asked for), [C] float32.
    """
    if _fused(logits_CV.device):
        logps_C, lse_C, entropy_C = torch.ops.r1rl.token_statistics(logits_CV, targets_C, scale, entropy)
        return logps_C, lse_C, entropy_C
    z_CV = logits_CV.float()
    z_CV = z_CV if scale == 1 else z_CV.mul_(scale)
    chosen_C = z_CV.gather(-1, targets_C[:, None])[:, 0]
    top_C = z_CV.amax(-1)
    z_CV.sub_(top_C[:, None])
    p_CV = z_CV.exp() if entropy else z_CV.exp_()
    total_C = p_CV.sum(-1)
    lse_C = top_C + total_C.log()
    entropy_C = total_C.log() - p_CV.mul_(z_CV).sum(-1) / total_C if entropy else lse_C.new_zeros(0)
    return chosen_C - lse_C, lse_C, entropy_C


def gradient(
    logits_CV: Tensor,
    targets_C: Tensor,
    lse_C: Tensor,
    grad_C: Tensor,
    scale: float,
    entropy_C: Tensor | None = None,
    entropy_grad_C: Tensor | None = None,
) -> Tensor:
    """Gradient with respect to the logits, [C, V] in their type; it may overwrite them.

    Args:
        lse_C: as :func:`statistics` returned it.
        grad_C: of the log-probabilities, [C] float32.
        entropy_C, entropy_grad_C: the entropies and their gradient, where there is one.
    """
    if _fused(logits_CV.device):
        torch.ops.r1rl.logits_gradient_(logits_CV, targets_C, lse_C, grad_C, scale, entropy_C, entropy_grad_C)
        return logits_CV
    z_CV = logits_CV.float()
    z_CV = (z_CV if scale == 1 else z_CV.mul_(scale)).sub_(lse_C[:, None])
    g_C = grad_C * scale
    if entropy_C is None or entropy_grad_C is None:
        d_CV = z_CV.exp_().mul_(-g_C[:, None])
    else:  # ∂H/∂z = −p · (log p + H)
        p_CV = z_CV.exp()
        weights_CV = z_CV.add_(entropy_C[:, None]).mul_((entropy_grad_C * scale)[:, None]).add_(g_C[:, None])
        d_CV = p_CV.mul_(weights_CV).neg_()
    return d_CV.scatter_add_(-1, targets_C[:, None], g_C[:, None]).to(logits_CV.dtype)


class _LinearLogps(torch.autograd.Function):
    """A linear head and :func:`statistics`: logits exist for one chunk at a time; the gradient computes them again."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_CE: Tensor,
        weight_VE: Tensor,
        bias_V: Tensor | None,
        targets_C: Tensor,
        chunk: int,
        scale: float,
        entropy: bool,
        entropy_grad: bool,
    ) -> tuple[Tensor, Tensor]:
        with torch.autocast(hidden_CE.device.type, enabled=False):
            parts = [
                statistics(F.linear(hidden, weight_VE, bias_V), targets, scale, entropy)
                for hidden, targets in zip(hidden_CE.split(chunk), targets_C.split(chunk), strict=True)
            ]
        logps_C, lse_C, entropy_C = (torch.cat(part) for part in zip(*parts, strict=True))
        ctx.chunk, ctx.scale, ctx.entropy_grad = chunk, scale, entropy and entropy_grad
        if not ctx.entropy_grad:
            ctx.mark_non_differentiable(entropy_C)
        ctx.save_for_backward(hidden_CE, weight_VE, bias_V, targets_C, lse_C, entropy_C)
        return logps_C, entropy_C

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_C: Tensor, entropy_grad_C: Tensor) -> tuple[Tensor | None, ...]:
        hidden_CE, weight_VE, bias_V, targets_C, lse_C, entropy_C = ctx.saved_tensors
        to_hidden, to_weight, to_bias, *_ = ctx.needs_input_grad
        d_hidden_CE = torch.empty_like(hidden_CE) if to_hidden else None
        d_weight_VE = torch.zeros_like(weight_VE) if to_weight else None
        d_bias_V = torch.zeros_like(bias_V) if to_bias else None
        with torch.autocast(hidden_CE.device.type, enabled=False):
            for first in range(0, len(hidden_CE), ctx.chunk):
                part = slice(first, first + ctx.chunk)
                entropies = (entropy_C[part], entropy_grad_C[part]) if ctx.entropy_grad else ()
                logits_CV = F.linear(hidden_CE[part], weight_VE, bias_V)
                d_CV = gradient(logits_CV, targets_C[part], lse_C[part], grad_C[part], ctx.scale, *entropies)
                if d_hidden_CE is not None:
                    torch.mm(d_CV, weight_VE, out=d_hidden_CE[part])
                if d_weight_VE is not None:
                    d_weight_VE.addmm_(d_CV.T, hidden_CE[part])
                if d_bias_V is not None:
                    d_bias_V += d_CV.sum(0)
        return d_hidden_CE, d_weight_VE, d_bias_V, None, None, None, None, None


def linear_logps(
    hidden_CE: Tensor,
    weight_VE: Tensor,
    bias_V: Tensor | None,
    targets_C: Tensor,
    *,
    chunk: int,
    temperature: float,
    entropy: bool,
    entropy_grad: bool,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the targets under a linear head, and entropies ([0] unless asked for), [C] float32.

    Args:
        hidden_CE: of the weight's type, which the logits are computed in.
        chunk: rows whose logits are in memory at once.
        temperature: divides the logits.
        entropy_grad: let gradients flow through the entropies.
    """
    settings = (chunk, 1 / temperature, entropy, entropy_grad)
    logps_C, entropy_C = _LinearLogps.apply(hidden_CE, weight_VE, bias_V, targets_C, *settings)  # type: ignore[no-untyped-call]
    return logps_C, entropy_C


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def _fused(device: torch.device) -> bool:
    return device.type == "cuda" and _has_triton()


# As operators of torch, so that they work on fake tensors and are seen by dispatch modes.
@torch.library.custom_op("r1rl::token_statistics", mutates_args=())
def _token_statistics(
    logits_CV: Tensor, targets_C: Tensor, scale: float, entropy: bool
) -> tuple[Tensor, Tensor, Tensor]:
    from r1rl.model import logprob_kernels

    return logprob_kernels.statistics(logits_CV, targets_C, scale, entropy)


@_token_statistics.register_fake
def _(logits_CV: Tensor, targets_C: Tensor, scale: float, entropy: bool) -> tuple[Tensor, Tensor, Tensor]:
    count = len(logits_CV)
    logps_C, lse_C = (logits_CV.new_empty(count, dtype=torch.float32) for _ in range(2))
    return logps_C, lse_C, logits_CV.new_empty(count if entropy else 0, dtype=torch.float32)


@torch.library.custom_op("r1rl::logits_gradient_", mutates_args=("logits_CV",))
def _logits_gradient(
    logits_CV: Tensor,
    targets_C: Tensor,
    lse_C: Tensor,
    grad_C: Tensor,
    scale: float,
    entropy_C: Tensor | None,
    entropy_grad_C: Tensor | None,
) -> None:
    from r1rl.model import logprob_kernels

    logprob_kernels.gradient_(logits_CV, targets_C, lse_C, grad_C, scale, entropy_C, entropy_grad_C)


@_logits_gradient.register_fake
def _(*arguments: Any) -> None:
    del arguments

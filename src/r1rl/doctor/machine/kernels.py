"""Attention and log-probabilities against plain float64 arithmetic, forward and backward."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from r1rl.doctor.machine.device import device, dtypes, on_gpu, random_policy, shape
from r1rl.doctor.machine.findings import Findings
from r1rl.model.attention import Layout, Packed, Shared
from r1rl.model.forward import PolicyForward

HEADS = ((14, 2, 64), (12, 2, 128), (4, 4, 32))
"""Query heads, key-value heads and their width: of Qwen2.5-0.5B and 1.5B, and without grouping."""
LENGTHS = (1, 129, 64, 300, 7)
BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 0.02}
"""Largest error relative to the reference, root mean squares. Rounding alone gives 3e-7 and 0.005; one token of another
sequence in a sum of a hundred gives 0.1."""
TEMPERATURE = 0.7


def attention(found: Findings) -> None:
    """Packed rows and rows with a shared prompt, for each precision and arrangement of heads."""
    worst = []
    for dtype in dtypes():
        errors = {
            f"{heads}/{kv_heads} heads of {width}": _packed(dtype, heads, kv_heads, width)
            for heads, kv_heads, width in HEADS
        }
        errors["shared prompt"] = _shared(dtype, *HEADS[0])
        for name, error in errors.items():
            found.at_most(f"{_name(dtype)}, {name}: error", error, BOUNDS[dtype])
        worst.append(f"{max(errors.values()):.1e} in {_name(dtype)}")
    found.summary = f"largest error {', '.join(worst)}"


def _packed(dtype: torch.dtype, heads: int, kv_heads: int, width: int) -> float:
    spans, start = [], 0
    for length in LENGTHS:
        spans.append(range(start, start + length))
        start += length
    return _error(Packed(LENGTHS), [list(span) for span in spans], dtype, heads, kv_heads, width)


def _shared(dtype: torch.dtype, heads: int, kv_heads: int, width: int) -> float:
    """A prompt of 40 tokens with completions of 60 and 25."""
    layout = Shared((40, 60, 25), ((0, 1), (0, 2)))
    return _error(
        layout, [[*range(40), *range(40, 100)], [*range(40), *range(100, 125)]], dtype, heads, kv_heads, width
    )


def _error(
    layout: Layout, sequences: Sequence[list[int]], dtype: torch.dtype, heads: int, kv_heads: int, width: int
) -> float:
    """The largest relative error of the output and of the three gradients. ``sequences`` are the places in the row that
    attend to each other."""
    torch.manual_seed(0)
    tokens = 1 + max(place for sequence in sequences for place in sequence)
    q, k, v = (
        torch.randn(1, count, tokens, width, device=device(), dtype=dtype, requires_grad=True)
        for count in (heads, kv_heads, kv_heads)
    )
    exact_q, exact_k, exact_v = (tensor.detach().double().requires_grad_() for tensor in (q, k, v))
    scale = width**-0.5
    out_BTHD = layout.attend(0, q, k, v, scale)
    upstream = torch.randn_like(out_BTHD)
    gradients = torch.autograd.grad(out_BTHD, (q, k, v), upstream)
    wanted_BTHD = _reference(exact_q, exact_k, exact_v, sequences, scale)
    wanted = torch.autograd.grad(wanted_BTHD, (exact_q, exact_k, exact_v), upstream.double())
    pairs = zip((out_BTHD, *gradients), (wanted_BTHD, *wanted), strict=True)
    return max(_relative(one, other) for one, other in pairs)


def _reference(q_BHTD: Tensor, k_BKTD: Tensor, v_BKTD: Tensor, sequences: Sequence[list[int]], scale: float) -> Tensor:
    """Softmax attention by its definition; a token in several sequences takes the output of the first."""
    repeat = q_BHTD.shape[1] // k_BKTD.shape[1]
    rows: dict[int, Tensor] = {}
    for places in sequences:
        q, k, v = (
            x[0][:, places] for x in (q_BHTD, k_BKTD.repeat_interleave(repeat, 1), v_BKTD.repeat_interleave(repeat, 1))
        )
        future = torch.ones(len(places), len(places), dtype=torch.bool, device=q.device).triu(1)
        out_HTD = (q @ k.transpose(1, 2) * scale).masked_fill(future, -torch.inf).softmax(-1) @ v
        for index, place in enumerate(places):
            rows.setdefault(place, out_HTD[:, index])
    return torch.stack([rows[place] for place in sorted(rows)])[None]


def logprobs(found: Findings) -> None:
    """What the learner calls on hidden states: log-probabilities and entropies of a chunked vocabulary, for each
    precision that weights and hidden states have in training."""
    size, tokens = ("0.5B", 2048) if on_gpu() else ("6M", 300)
    cases = {
        "float32": (torch.float32, None, True),
        "bfloat16 over float32 weights": (torch.float32, torch.bfloat16, True),
        "bfloat16 weights": (torch.bfloat16, torch.bfloat16, True),
        "bfloat16 logits": (torch.bfloat16, torch.bfloat16, False),
    }
    worst = 0.0
    for name, (weights, autocast, fp32_head) in cases.items():
        errors = _head_errors(size, tokens, weights, autocast, fp32_head)
        worst = max(worst, errors[0]) if fp32_head else worst
        found.at_most(f"{name}: error of log-probabilities", errors[0], 1e-4 if fp32_head else 0.02)
        found.at_most(f"{name}: error of entropies", errors[1], 1e-4 if fp32_head else 0.02)
        found.at_most(f"{name}: error of gradients", max(errors[2:]), 2e-4 if weights == torch.float32 else 0.02)
    found.summary = f"largest error {worst:.1e}, vocabulary {shape(size).vocabulary:,}"


def _head_errors(
    size: str, tokens: int, weights: torch.dtype, autocast: torch.dtype | None, fp32_head: bool
) -> list[float]:
    """Relative errors of log-probabilities, entropies, and the gradients of hidden states and weights."""
    model = random_policy(size).model
    model.to(weights)  # type: ignore[arg-type]
    forward = PolicyForward(model, TEMPERATURE, chunk=tokens // 3, autocast=autocast, fp32_head=fp32_head)
    weight_VE = model.get_output_embeddings().weight
    hidden_CE = torch.randn(tokens, weight_VE.shape[1], device=device(), dtype=weights, requires_grad=True)
    targets_C = torch.randint(weight_VE.shape[0], (tokens,), device=device())
    with torch.autocast(device().type, autocast, enabled=autocast is not None):
        logps_C, entropy_C = forward.head(hidden_CE, targets_C, True)
    upstream_C = torch.randn_like(logps_C)
    gradients = torch.autograd.grad(logps_C, (hidden_CE, weight_VE), upstream_C)
    exact = [tensor.detach().double().requires_grad_() for tensor in (hidden_CE, weight_VE)]
    all_CV = (exact[0] @ exact[1].T / TEMPERATURE).log_softmax(-1)
    wanted_C = all_CV.gather(-1, targets_C[:, None])[:, 0]
    wanted = torch.autograd.grad(wanted_C, exact, upstream_C.double())
    wanted_entropy_C = -(all_CV.exp() * all_CV).sum(-1)
    pairs = zip((logps_C, entropy_C, *gradients), (wanted_C, wanted_entropy_C, *wanted), strict=True)
    return [_relative(one, other) for one, other in pairs]


@torch.no_grad()
def _relative(one: Tensor, exact: Tensor) -> float:
    return float((one.double() - exact).square().mean().sqrt() / exact.square().mean().sqrt())


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

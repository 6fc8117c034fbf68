"""Log-probabilities, entropies and their gradients by torch's own functions in float64. As a program, in Triton's
interpreter (TRITON_INTERPRET=1), it compares the kernels with them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

BF16 = torch.bfloat16
SCALES = (1.0, 1 / 0.7)


def case(dtype: torch.dtype, width: int = 211) -> tuple[torch.Tensor, ...]:
    """Logits as large as a trained model's, targets, and gradients of log-probabilities and entropies."""
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(6, width, generator=generator) * 6).to(dtype)
    targets = torch.tensor([0, width - 1, 5, 7, 7, 100])
    return logits, targets, torch.linspace(-1, 2, 6), torch.linspace(0.5, -0.5, 6)


def oracle(
    logits: torch.Tensor, targets: torch.Tensor, grad: torch.Tensor, entropy_grad: torch.Tensor | None, scale: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    exact = logits.double().requires_grad_()
    logps = (exact * scale).log_softmax(-1)
    chosen, entropy = logps.gather(-1, targets[:, None])[:, 0], -(logps.exp() * logps).sum(-1)
    total = (chosen * grad).sum() + (0 if entropy_grad is None else (entropy * entropy_grad).sum())
    (d,) = torch.autograd.grad(total, exact)
    return chosen.detach(), entropy.detach(), d


def assert_equals_oracle(module: Any, dtype: torch.dtype, scale: float, through_entropy: bool, width: int) -> None:
    logits, targets, grad, entropy_grad = case(dtype, width)
    wanted = oracle(logits, targets, grad, entropy_grad if through_entropy else None, scale)
    logps, lse, entropy = module.statistics(logits.clone(), targets, scale, True)
    assert logps.dtype == lse.dtype == entropy.dtype == torch.float32
    for found, exact in ((logps, wanted[0]), (entropy, wanted[1])):
        assert torch.allclose(found.double(), exact, atol=2e-5)
    assert torch.allclose(module.statistics(logits.clone(), targets, scale, False)[0], logps, atol=1e-6)
    entropies = (entropy, entropy_grad) if through_entropy else (None, None)
    d = module.gradient(logits.clone(), targets, lse, grad, scale, *entropies)
    assert d.dtype == dtype
    assert torch.allclose(d.double(), wanted[2], atol=1e-5 if dtype == torch.float32 else 0.02)


def main() -> None:
    from r1rl.model import logprob_kernels, logprobs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logprobs, "_fused", lambda device: True)
        patch.setattr(logprob_kernels, "BLOCK", 64)  # several blocks, the last one not full
        for dtype, scale, through_entropy in itertools.product((torch.float32, BF16), SCALES, (False, True)):
            assert_equals_oracle(logprobs, dtype, scale, through_entropy, 211)
            print("equal")
    nothing, targets = torch.zeros(0, 50), torch.zeros(0, dtype=torch.int64)
    assert [len(x) for x in logprob_kernels.statistics(nothing, targets, 1.0, True)] == [0, 0, 0]
    logprob_kernels.gradient_(nothing, targets, nothing[:, 0], nothing[:, 0], 1.0, None, None)


if __name__ == "__main__":
    main()

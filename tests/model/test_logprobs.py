"""Log-probabilities and entropies in one pass, forward and backward: torch's own functions in float64 are the oracle.
The kernels run in Triton's interpreter, and are compiled for a GPU that is not there."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from r1rl.model import logprobs
from r1rl.model.forward import ChunkedHead
from tests.support.logprob_oracle import BF16, SCALES, assert_equals_oracle


@pytest.mark.parametrize("through_entropy", [False, True])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dtype", [torch.float32, BF16])
def test_plain_equals_torch(dtype: torch.dtype, scale: float, through_entropy: bool) -> None:
    assert_equals_oracle(logprobs, dtype, scale, through_entropy, 211)


def test_kernels_equal_torch() -> None:
    """In a process of its own: Triton decides when it is imported whether it interprets."""
    pytest.importorskip("triton", reason="the fused kernels need Triton: pip install triton")
    command = [sys.executable, "-m", "tests.support.logprob_oracle"]
    ran = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["equal"] * 8


@pytest.mark.parametrize("entropy", [False, True])
@pytest.mark.parametrize("dtype", ["*fp32", "*bf16"])
@pytest.mark.parametrize("name", ["statistics_kernel", "gradient_kernel"])
def test_kernels_compile_for_a_gpu(name: str, dtype: str, entropy: bool, monkeypatch: Any, tmp_path: Any) -> None:
    triton = pytest.importorskip("triton", reason="the fused kernels need Triton: pip install triton")
    compiler = importlib.import_module("triton.compiler")
    target = importlib.import_module("triton.backends.compiler").GPUTarget("cuda", 90, 32)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernels = importlib.import_module("r1rl.model.logprob_kernels")
    kernel = getattr(kernels, name)
    signature = dict.fromkeys(kernel.arg_names, "*fp32")
    signature |= {"logits_ptr": dtype, "targets_ptr": "*i64", "V": "i32", "scale": "fp32"}
    constants = {"ENTROPY": entropy, "BLOCK": kernels.BLOCK}
    signature |= dict.fromkeys(constants, "constexpr")
    source = compiler.ASTSource(kernel, signature, constants)
    compiled = triton.compile(source, target=target, options={"num_warps": kernels.WARPS})
    assert ".target sm_90" in compiled.asm["ptx"]
    assert len(compiled.asm["cubin"]) > 0


class Wrapped(nn.Linear):
    """Takes the way of heads that are not one matrix product."""


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("entropy_grad", [False, True])
def test_a_linear_head_equals_autograd_over_its_logits(bias: bool, entropy_grad: bool) -> None:
    torch.manual_seed(0)
    hidden, targets = torch.randn(20, 16), torch.randint(0, 50, (20,))
    found = []
    for kind in (nn.Linear, Wrapped):
        torch.manual_seed(1)
        head, x = kind(16, 50, bias=bias), hidden.clone().requires_grad_()
        logps, entropy = ChunkedHead(head, 7, 0.8, entropy_grad=entropy_grad)(x, targets, True)
        assert entropy.requires_grad is entropy_grad
        ((logps * torch.linspace(-1, 1, 20)).sum() + (entropy.square().sum() if entropy_grad else 0)).backward()
        found.append([logps, entropy, x.grad, *(p.grad for p in head.parameters())])
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_a_frozen_head_has_no_gradient() -> None:
    head, hidden = nn.Linear(8, 30, bias=False).requires_grad_(False), torch.randn(5, 8).requires_grad_()
    ChunkedHead(head, 2, 1.0)(hidden, torch.arange(5), False)[0].sum().backward()
    assert head.weight.grad is None
    assert hidden.grad.abs().sum() > 0

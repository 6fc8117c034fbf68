"""The head in float32: what bfloat16 logits would add to every log-probability, and that learner and engine agree."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from r1rl.config import RunConfig, TinyModelConfig
from r1rl.model.forward import ChunkedHead, PackedTokens, PolicyForward
from r1rl.model.head import head_function
from r1rl.model.load import Policy
from r1rl.rollout.build import build_engine
from r1rl.rollout.engine import Request, complete
from r1rl.rollout.torch_engine import TorchEngine
from r1rl.stages.pretrain import build_model, build_tokenizer, documents, packs
from r1rl.types import Problem, SamplingParams

CPU, BF16 = torch.device("cpu"), torch.bfloat16


@pytest.fixture(scope="module")
def trained() -> Policy:
    """A model that has learnt some: its logits are as large as a base model's, on which rounding depends."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer(documents("arithmetic", seed=-1), 300)
    shape = TinyModelConfig(hidden_size=64, layers=2, heads=4, kv_heads=2, intermediate_size=128, tie_embeddings=False)
    model = build_model(shape, tokenizer)
    forward = PolicyForward(model, 1.0, 4096)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.95))
    for batch in itertools.islice(packs(documents("arithmetic", 0), tokenizer, 1024, 1024), 40):
        (-forward(PackedTokens.build(batch, [0] * len(batch), CPU))[0].mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return Policy(model, tokenizer)


@pytest.fixture(scope="module")
def text(trained: Policy) -> PackedTokens:
    batch = next(packs(documents("arithmetic", 1), trained.tokenizer, 1024, 1024))
    return PackedTokens.build(batch, [4] * len(batch), CPU)


def logps(policy: Policy, tokens: PackedTokens, dtype: torch.dtype | None, fp32: bool) -> torch.Tensor:
    with torch.no_grad():
        return PolicyForward(policy.model, 1.0, 100, dtype, fp32_head=fp32)(tokens)[0]


def test_error_of_log_probabilities_under_autocast(trained: Policy, text: PackedTokens) -> None:
    exact = logps(trained, text, None, True)
    with_head, without = ((logps(trained, text, BF16, fp32) - exact).abs().mean() for fp32 in (True, False))
    assert with_head < without / 1.7  # 1/2.6 to 1/5.6 with more training; the rest is the body's
    assert torch.equal(logps(trained, text, None, False), exact)


@pytest.mark.parametrize("weights", [torch.float32, BF16])
@torch.no_grad()
def test_the_head_adds_nothing_of_its_own(weights: torch.dtype) -> None:
    """``weights``: masters under autocast, or what DeepSpeed holds in bf16."""
    torch.manual_seed(0)
    head = nn.Linear(64, 500, bias=False).to(weights)
    hidden, targets = torch.randn(40, 64) * 8, torch.randint(0, 500, (40,))
    logits = hidden.double() @ head.weight.double().T
    probabilities = logits.log_softmax(-1)
    wanted = probabilities.gather(-1, targets[:, None])[:, 0].float()
    entropies = -(probabilities.exp() * probabilities).sum(-1).float()
    errors = {}
    for fp32 in (True, False):
        with torch.no_grad(), torch.autocast("cpu", BF16):
            found, entropy = ChunkedHead(head, 7, 1.0, None, fp32)(hidden.to(weights), targets, True)
        assert found.dtype == torch.float32
        errors[fp32] = float((found - wanted).abs().max()), float((entropy - entropies).abs().max())
    if weights == torch.float32:
        assert max(errors[True]) < 1e-4
        assert errors[True][0] < errors[False][0] / 100
    else:  # hidden states come in bfloat16: what they were rounded by stays
        assert errors[True][0] < errors[False][0]


def test_gradients_of_a_low_precision_head_add_up_in_float32() -> None:
    """Chunks add to one float32 gradient, which is rounded once."""
    torch.manual_seed(0)
    head = nn.Linear(16, 50, bias=False).to(BF16)
    hidden, targets = torch.randn(64, 16).to(BF16), torch.randint(0, 50, (64,))
    gradients = []
    for chunk in (1, 64):
        head.zero_grad()
        ChunkedHead(head, chunk, 1.0)(hidden, targets, False)[0].sum().backward()
        gradients.append(head.weight.grad.float())
    assert torch.allclose(*gradients, rtol=2**-7, atol=1e-3)


def test_other_heads_are_called_as_modules() -> None:
    class Scaled(nn.Linear):
        def forward(self, hidden):
            return 2 * super().forward(hidden)

    head, hidden = Scaled(8, 9), torch.randn(3, 8)
    with torch.autocast("cpu", BF16):
        assert head_function(head, True)(hidden).dtype == torch.float32
        assert head_function(head, False)(hidden).dtype == BF16
    assert torch.equal(head_function(head, True)(hidden), head(hidden))
    assert head_function(head.to(BF16), True)(hidden.to(BF16)).dtype == BF16  # quantized heads know their own precision


def test_engine_and_learner_use_the_same_head(trained: Policy) -> None:
    gaps = {}
    for fp32 in (True, False):
        request = Request(Problem("a", tuple(range(3, 11)), ""), tuple(range(8)))
        samples = complete(TorchEngine(trained, 8, BF16, fp32), [request], SamplingParams(24))[0]
        rows = [[*range(3, 11), *c.token_ids.tolist()] for c in samples]
        tokens = PackedTokens.build(rows, [8] * len(rows), CPU)
        engine = np.concatenate([c.logps for c in samples])
        gaps[fp32] = np.abs(logps(trained, tokens, BF16, fp32).numpy() - engine).mean()
    assert gaps[True] < gaps[False]
    assert gaps[True] < 0.02


@pytest.mark.parametrize("cast", [True, False])
def test_the_key_reaches_the_engine(tiny_policy: Policy, cast: bool) -> None:
    cfg = RunConfig(model={"path": "x", "dtype": "bfloat16", "cast_lm_head_to_fp32": cast})
    engine = build_engine(cfg, tiny_policy)
    assert isinstance(engine, TorchEngine)
    assert engine.fp32_head is cast

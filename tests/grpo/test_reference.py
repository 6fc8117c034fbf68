"""The reference policy: the initial policy's own function, in little more than half of its memory under bfloat16."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from r1rl.config import ModelConfig
from r1rl.grpo.learner import WEIGHTS, load_weights
from r1rl.grpo.reference import frozen
from r1rl.model.forward import PackedTokens, PolicyForward
from r1rl.model.load import Policy, load_policy
from tests.support.architectures import tiny

CPU = torch.device("cpu")


def held(module: torch.nn.Module) -> int:
    return sum(p.nbytes for p in module.parameters())


@pytest.mark.parametrize("kind", ["qwen2", "deepseek_v3", "mixtral"])
@pytest.mark.parametrize("changes", [{"tie_word_embeddings": True}, {"tie_word_embeddings": False}])
def test_a_bfloat16_reference_equals_the_policy_to_the_bit(kind, changes) -> None:
    forward = PolicyForward(tiny(kind, **changes), 1.0, 8, torch.bfloat16)
    reference = frozen(forward)
    tokens = PackedTokens.build([list(range(2, 20)), list(range(40, 50))], [3, 4], CPU)
    with torch.no_grad():
        expected, found = forward(tokens)[0], reference(tokens)[0]
    assert torch.equal(found, expected)
    assert not any(p.requires_grad for p in reference.parameters())


def test_a_bfloat16_reference_takes_half_of_the_layers_memory() -> None:
    forward = PolicyForward(tiny("qwen2"), 1.0, 8, torch.bfloat16)
    assert held(frozen(forward).model.model.layers) < 0.52 * held(forward.model.model.layers)


def test_a_float32_reference_stays_when_the_policy_moves() -> None:
    forward = PolicyForward(tiny("qwen2"), 1.0, 8)
    reference = frozen(forward)
    before = [p.clone() for p in forward.parameters()]
    with torch.no_grad():
        for parameter in forward.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(p, was) for p, was in zip(reference.parameters(), before, strict=True))


def test_a_mapped_reference_stays_at_the_start_when_a_checkpoint_is_loaded(tiny_policy: Policy, tmp_path: Path) -> None:
    from r1rl.distributed.shards import write_tensors

    tiny_policy.save(tmp_path / "model")
    policy = load_policy(ModelConfig(path=str(tmp_path / "model")), CPU, mapped=True)
    start = [p.detach().clone() for p in policy.model.parameters()]
    reference = frozen(PolicyForward(policy.model, 1.0, 8), policy.mapped)
    shared = zip(reference.model.parameters(), policy.model.parameters(), strict=True)
    assert all(mine.data_ptr() == theirs.data_ptr() for mine, theirs in shared), "no second copy in memory"
    trained = [(f"{WEIGHTS}/{name}", p.detach() + 1) for name, p in policy.model.named_parameters()]
    write_tensors(tmp_path / "checkpoint", trained)
    load_weights(policy, tmp_path / "checkpoint")
    for mine, theirs, was in zip(reference.model.parameters(), policy.model.parameters(), start, strict=True):
        assert torch.equal(mine, was)
        assert torch.equal(theirs, was + 1)

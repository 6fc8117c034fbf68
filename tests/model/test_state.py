"""Persistent buffers go wherever weights go: DeepSeek-V3 without its routing bias sends tokens to other experts."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors import safe_open
from torch import nn
from transformers import AutoModelForCausalLM

from r1rl.config import ModelConfig
from r1rl.config.grpo import GRPOConfig
from r1rl.distributed.shards import read_tensors
from r1rl.grpo.checkpoint import Checkpoints, RunState
from r1rl.grpo.learner import WEIGHTS, Learner, load_weights
from r1rl.grpo.reference import FrozenCopy, frozen
from r1rl.model.load import Policy, load_policy
from r1rl.model.state import persistent_buffers
from r1rl.rollout.vllm.weights import PolicyWeights, SharedFolder, SharedWeights
from tests.support.architectures import tiny

BIAS = "model.layers.1.mlp.gate.e_score_correction_bias"


@pytest.fixture
def policy(tiny_policy: Policy) -> Policy:
    """A DeepSeek-V3 with a routing bias that bfloat16 does not resolve, and a tokenizer."""
    model = tiny("deepseek_v3", vocab_size=len(tiny_policy.tokenizer))
    model.get_buffer(BIAS).copy_(7 + torch.linspace(0, 0.01, 8))
    return Policy(model, tiny_policy.tokenizer)


def learner(policy: Policy, resume: Path | None = None) -> Learner:
    return Learner(
        policy, GRPOConfig(beta=0.1, ref_update_every=1), Accelerator(cpu=True), dtype="float32", temperature=1.0,
        max_length=8, total_updates=4, seed=0, resume=resume,
    )  # fmt: skip


def test_which_buffers_are_state(policy: Policy) -> None:
    assert [name for name, _ in persistent_buffers(policy.model)] == [BIAS]  # and no inv_freq
    twice = nn.ModuleList([nn.BatchNorm1d(2)] * 2)
    assert [name for name, _ in persistent_buffers(twice)] == [
        "0.running_mean", "0.running_var", "0.num_batches_tracked",
    ]  # fmt: skip


@pytest.mark.parametrize("lora", [None, {"rank": 2, "target_modules": ["o_proj"]}])
def test_saved_and_opened_again(policy: Policy, tmp_path: Path, lora) -> None:
    policy.save(tmp_path / "a")
    load_policy(ModelConfig(path=str(tmp_path / "a"), lora=lora), torch.device("cpu")).save(tmp_path / "b")
    names = [name for file in (tmp_path / "b").glob("*.safetensors") for name in safe_open(file, "pt").keys()]  # noqa: SIM118
    assert BIAS in names
    assert not any("inv_freq" in name for name in names)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "b", dtype=torch.float32)
    assert torch.equal(again.get_buffer(BIAS), policy.model.get_buffer(BIAS))
    ids = torch.arange(12)[None]
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(tmp_path / "a", dtype=torch.float32)
        torch.testing.assert_close(again(ids).logits, plain(ids).logits)


def test_checkpoint_and_reference(policy: Policy, tmp_path: Path) -> None:
    trained = learner(policy)
    assert isinstance(trained.reference, FrozenCopy)
    policy.model.get_buffer(BIAS).add_(1)
    trained.reference.replace(trained.backend.weights())
    wanted = policy.model.get_buffer(BIAS).clone()
    assert torch.equal(dict(trained.reference.weights())[BIAS], wanted)
    saved = Checkpoints(tmp_path, 1).save(RunState(1, 1, ""), trained.tensors())
    assert BIAS in dict(read_tensors(saved / WEIGHTS))
    other = Policy(tiny("deepseek_v3", vocab_size=len(policy.tokenizer)), policy.tokenizer)
    load_weights(other, saved)
    assert torch.equal(other.model.get_buffer(BIAS), wanted)
    resumed = learner(Policy(copy.deepcopy(other.model), policy.tokenizer), resume=saved)
    resumed.load(saved, trained.state_dict())
    assert isinstance(resumed.reference, FrozenCopy)
    assert torch.equal(dict(resumed.reference.weights())[BIAS], wanted)


def test_what_an_engine_receives(policy: Policy) -> None:
    source, folder = PolicyWeights(policy, torch.bfloat16), SharedFolder()
    assert [m.name for m in source.metadata()] == [name for name, _ in source]
    shared = SharedWeights.write(source, 0, folder.path, bucket_bytes=4096)
    kinds = {name: kind for r in shared.requests() for name, kind in zip(r["names"], r["dtypes"], strict=True)}
    folder.close()
    assert kinds.pop(BIAS) == "float32", "eight values of this bias are one in bfloat16"
    assert set(kinds.values()) == {"bfloat16"}
    assert torch.equal(dict(source)[BIAS], policy.model.get_buffer(BIAS))


def test_the_copy_that_zero_3_samples_from(policy: Policy) -> None:
    pytest.importorskip("deepspeed", reason="pip install 'r1rl[deepspeed]'")
    from r1rl.grpo.zero import ZeroBackend

    backend = ZeroBackend.__new__(ZeroBackend)
    backend.policy, backend.stage, backend.device, backend._replica = policy, 3, torch.device("cpu"), None
    backend.dtype = torch.float32
    backend.names = dict(policy.model.named_parameters())
    sampler = backend.sampler()
    assert sampler.refresh is not None
    sampler.refresh()
    for name, value in policy.model.state_dict().items():
        assert torch.equal(sampler.model.state_dict()[name], value), name


def test_zero_assigns_buffers(policy: Policy) -> None:
    pytest.importorskip("deepspeed", reason="pip install 'r1rl[deepspeed]'")
    from r1rl.grpo.zero import ZeroBackend
    from r1rl.model.forward import PolicyForward

    backend = ZeroBackend.__new__(ZeroBackend)
    backend.policy, backend.stage = policy, 2
    copied = frozen(PolicyForward(tiny("deepseek_v3", vocab_size=len(policy.tokenizer)), 1.0, 8))
    backend.assign(copied, policy.model.state_dict().items())
    assert torch.equal(dict(backend.gather_placed(copied))[BIAS], policy.model.get_buffer(BIAS))

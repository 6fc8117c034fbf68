"""The check after a sync against a second implementation: transformers' own attention, in float32 and in bfloat16."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from torch import Tensor

from r1rl.config.model import TinyModelConfig
from r1rl.model.forward import PackedTokens
from r1rl.model.load import Policy
from r1rl.model.rounding import computing_in
from r1rl.rollout.vllm.sync_check import EXACT_TOLERANCE, LEAST_TOLERANCE, MEASURE_EVERY, SyncCheck, SyncError
from r1rl.rollout.vllm.weights import PolicyWeights
from r1rl.stages.pretrain import build_model, build_tokenizer, documents

DTYPES = [torch.float32, torch.bfloat16]


class OtherEngine:
    """Serves what it receives with transformers' eager attention, every value in ``dtype``, and a packed copy of the
    output head as the CPU build of vLLM keeps one."""

    def __init__(self, policy: Policy, dtype: torch.dtype) -> None:
        self.model = copy.deepcopy(policy.model).to(dtype)  # type: ignore[arg-type]
        self.model.set_attn_implementation("eager")
        self.head = self.model.lm_head.weight.detach().clone()
        self.version = "0"

    @torch.no_grad()
    def receive(self, weights: Iterable[tuple[str, Tensor]], version: int, packs: bool = True) -> None:
        own = dict(self.model.named_parameters())
        for name, tensor in weights:
            own[name].copy_(tensor)
        if packs:
            self.head = self.model.lm_head.weight.detach().clone()
        self.version = str(version)

    @torch.no_grad()
    def score(self, prompts: list[list[int]]) -> list[list[float]]:
        rows = []
        for prompt in prompts:
            ids = torch.tensor(prompt)
            hidden = self.model.model(ids[None], use_cache=False).last_hidden_state[0, :-1]
            logps = (hidden @ self.head.T).float().log_softmax(-1)
            rows.append(logps.gather(-1, ids[1:, None])[:, 0].tolist())
        return rows


def a_policy(tied: bool = True, layers: int = 4) -> Policy:
    torch.manual_seed(0)
    tokenizer = build_tokenizer(documents("arithmetic", seed=-1), 200)
    shape = TinyModelConfig(
        hidden_size=64, layers=layers, heads=2, kv_heads=1, intermediate_size=128, tie_embeddings=tied
    )
    return Policy(build_model(shape, tokenizer), tokenizer)


@pytest.fixture(params=DTYPES, ids=["float32", "bfloat16"])
def synced(request: pytest.FixtureRequest) -> tuple[Policy, OtherEngine, SyncCheck, torch.dtype]:
    """A policy, an engine that serves version 0 of it, and the check that has seen that."""
    dtype, policy = request.param, a_policy()
    engine, check = OtherEngine(policy, dtype), SyncCheck(policy, None if dtype == torch.float32 else dtype)
    gap = verify(check, engine, 0)
    print(f"{dtype}: {gap:.2e} nats apart, {check.tolerance:.2e} allowed")
    return policy, engine, check, dtype


def verify(check: SyncCheck, engine: OtherEngine, version: int) -> float:
    return check.compare("engine", check.expect(version), engine.version, engine.score(check.prompts))


def change(policy: Policy, size: float = 0.03) -> None:
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=size)


def test_a_healthy_engine_passes_at_every_version(synced) -> None:
    policy, engine, check, dtype = synced
    for version in range(1, 6):
        change(policy)
        engine.receive(PolicyWeights(policy, dtype), version)
        assert verify(check, engine, version) <= check.tolerance


def test_a_stale_output_head_is_caught(synced) -> None:
    policy, engine, check, dtype = synced
    change(policy)
    engine.receive(PolicyWeights(policy, dtype), 1, packs=False)
    with pytest.raises(SyncError, match="serves other weights"):
        verify(check, engine, 1)


@pytest.mark.parametrize("size", [0.03, 1e-3])
def test_a_skipped_sync_is_caught(synced, size: float) -> None:
    policy, engine, check, _ = synced
    change(policy, size)
    with pytest.raises(SyncError, match="serves weight version 0, the learner is at 1"):
        verify(check, engine, 1)
    engine.version = "1"  # one that only counts up
    with pytest.raises(SyncError, match=r"serves other weights|did not arrive"):
        verify(check, engine, 1)


@pytest.mark.parametrize("missing", ["embed_tokens", "layers.0.self_attn.o_proj", "layers.3.mlp.down_proj"])
def test_a_missing_tensor_is_caught(synced, missing: str) -> None:
    policy, engine, check, dtype = synced
    change(policy, 0.06)
    sent = [(name, tensor) for name, tensor in PolicyWeights(policy, dtype) if missing not in name]
    assert len(sent) == len(PolicyWeights(policy, dtype).metadata()) - 1
    engine.receive(sent, 1)
    with pytest.raises(SyncError, match="serves other weights"):
        verify(check, engine, 1)


@pytest.mark.parametrize("tied", [True, False])
def test_the_tolerance_is_twice_what_rounding_does(tied: bool) -> None:
    """The formula again, with whole copies of the model instead of one converted module at a time."""
    policy = a_policy(tied)
    change(policy, 0.1)
    check = SyncCheck(policy, torch.bfloat16)
    learner = check.expect(0).logps
    exact, low = (np.concatenate(OtherEngine(policy, dtype).score(check.prompts)) for dtype in DTYPES)
    own, engine = np.abs(learner - exact).mean(), np.abs(low - exact).mean()
    assert check.tolerance == pytest.approx(max(LEAST_TOLERANCE, 2 * (own + engine)), rel=0.5)
    assert check.tolerance > EXACT_TOLERANCE


def test_float32_and_a_given_tolerance_measure_nothing() -> None:
    policy = a_policy()
    for check, wanted in (
        (SyncCheck(policy, None), EXACT_TOLERANCE),
        (SyncCheck(policy, torch.bfloat16, 0.3), 0.3),
    ):
        check.expect(0)
        assert check.tolerance == wanted


def test_rounding_is_measured_again_as_the_policy_changes() -> None:
    policy = a_policy()
    check = SyncCheck(policy, torch.bfloat16)
    check.expect(7)
    first = check.tolerance
    change(policy, 0.3)
    check.expect(7 + MEASURE_EVERY - 1)
    assert check.tolerance == first
    check.expect(7 + MEASURE_EVERY)
    assert check.tolerance > first


def test_weights_are_as_before_after_a_pass_in_another_precision() -> None:
    policy = a_policy()
    policy.model.eval()
    before = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
    check = SyncCheck(policy, torch.bfloat16)
    tokens = PackedTokens.build(check.prompts, [1] * len(check.prompts), torch.device("cpu"))
    with torch.no_grad(), computing_in(torch.bfloat16, check.plain):
        hidden = []
        with policy.model.model.norm.register_forward_hook(lambda module, args, out: hidden.append(out.dtype)):
            low, _ = check.plain(tokens)
    with torch.no_grad():
        exact, _ = check.plain(tokens)
    assert hidden == [torch.bfloat16]
    assert not torch.equal(low, exact)
    assert all(torch.equal(before[name], tensor) for name, tensor in policy.model.state_dict().items())
    assert {parameter.dtype for parameter in policy.model.parameters()} == {torch.float32}


def test_weights_come_back_where_a_pass_fails() -> None:
    policy = a_policy()
    check = SyncCheck(policy, torch.bfloat16)
    tokens = PackedTokens.build(check.prompts, [1] * len(check.prompts), torch.device("cpu"))
    tokens.ids_T[0] = 10**6
    with pytest.raises(IndexError), torch.no_grad(), computing_in(torch.bfloat16, check.plain):
        check.plain(tokens)
    assert {parameter.dtype for parameter in policy.model.parameters()} == {torch.float32}

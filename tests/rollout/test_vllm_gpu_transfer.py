"""Our carriers drive the real weight transfer of vLLM's GPU wheel, on stand-ins for CUDA memory and NCCL."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from r1rl.config.model import TinyModelConfig
from r1rl.model.load import Policy
from r1rl.rollout.vllm.carriers import DirectCarrier
from r1rl.rollout.vllm.vllm_carriers import Ipc, Nccl, VllmCarrier
from r1rl.rollout.vllm.weights import DIRECT, PolicyWeights
from r1rl.stages.pretrain import build_model, build_tokenizer, documents
from tests.support.vllm_gpu import GpuServer, Memory, Served, cuda, needs_wheel
from tests.support.waits import HANG_S

__all__ = ["cuda"]
pytestmark = [needs_wheel, pytest.mark.timeout(3 * HANG_S)]

DTYPE = torch.bfloat16
ON_GPU = torch.device("cuda", 3)
URLS = ["http://127.0.0.1:8000", "http://127.0.0.1:8001"]


@pytest.fixture
def policy() -> Policy:
    torch.manual_seed(0)
    tokenizer = build_tokenizer(documents("arithmetic", seed=-1), 300)
    shape = TinyModelConfig(hidden_size=32, layers=2, heads=2, kv_heads=1, intermediate_size=64, tie_embeddings=False)
    return Policy(build_model(shape, tokenizer), tokenizer)


def change(policy: Policy) -> dict[str, torch.Tensor]:
    """An update. Returns what engines have to hold after it."""
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return {name: parameter.detach().to(DTYPE) for name, parameter in policy.model.named_parameters()}


def server(policy: Policy, receiver: type, backend: str, gpus: int = 1, device: torch.device = ON_GPU) -> GpuServer:
    models = [Served(copy.deepcopy(policy.model), DTYPE) for _ in range(gpus)]
    return GpuServer(receiver, models, device, backend)


def test_ipc_carries_tensors_that_are_larger_than_the_buffer(policy: Policy, cuda: Memory) -> None:
    """Embeddings exceed any sensible bucket: 467 MB in bfloat16 for Qwen2.5-1.5B. vLLM refuses to split them."""
    from vllm.distributed.weight_transfer.ipc_engine import IPCWeightTransferEngine

    source = PolicyWeights(policy, DTYPE)
    sizes = sorted(meta.nbytes for meta in source.metadata())
    bucket = sizes[-3] + 1
    assert sizes[-1] > bucket
    engine = server(policy, IPCWeightTransferEngine, "ipc")
    carrier = VllmCarrier(Ipc(bucket), source, HANG_S)
    for version in (1, 2):
        wanted = change(policy)
        carrier.deliver([engine], version)
        assert engine.version == str(version)
        assert engine.holds(wanted)
    assert engine.joined == 1
    assert {buffer.numel() for buffer in cuda.exported} == {sizes[-1]}
    assert len(cuda.exported) == 2, "one buffer per delivery, whatever the number of chunks"
    carrier.close()


def test_a_group_is_opened_kept_and_reopened_for_a_new_process(policy: Policy, cuda: Memory) -> None:
    from vllm.distributed.weight_transfer.nccl_engine import NCCLWeightTransferEngine

    first, second, third = (server(policy, NCCLWeightTransferEngine, "nccl", gpus) for gpus in (2, 1, 2))
    carrier = VllmCarrier(Nccl(0, URLS), PolicyWeights(policy, DTYPE), HANG_S)
    for version, members in enumerate([[first, second], [first, second], [first], [first, third]]):
        wanted = change(policy)
        carrier.publish(version)
        carrier.deliver(members, version)
        assert all(member.holds(wanted) for member in members), version
        assert {member.version for member in members} == {str(version)}
    assert (first.joined, second.joined) == (3, 1), "the group of the second delivery is that of the first"
    carrier.close()
    assert not [e for s in (first, second) for e in s.engines if e.model_update_group is None]


def test_ranks_that_do_not_send_only_gather(policy: Policy, cuda: Memory) -> None:
    passes: list[int] = []

    def gather(dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
        assert dtype is DTYPE
        passes.append(1)
        yield from policy.model.named_parameters()

    sharded = Policy(policy.model, policy.tokenizer, gather=gather)
    carrier = VllmCarrier(Nccl(1, URLS), PolicyWeights(sharded, DTYPE), HANG_S)
    carrier.deliver([], 1)
    carrier.deliver([], 2)
    assert len(passes) == 2


def test_an_engine_in_the_trainers_process_loads_the_trainers_tensors(policy: Policy, cuda: Memory) -> None:
    from r1rl.rollout.vllm.worker import DirectEngine

    engine: Any = server(policy, DirectEngine, DIRECT, device=torch.device("cpu"))
    carrier = DirectCarrier(PolicyWeights(policy, DTYPE))
    engine.init_weight_transfer_engine({})
    for version in (1, 2):
        wanted = change(policy)
        carrier.deliver([engine], version)
        assert engine.holds(wanted)
        assert engine.version == str(version)


def test_vllm_knows_our_receivers(cuda: Memory) -> None:
    from vllm.distributed.weight_transfer import WeightTransferEngineFactory

    from r1rl.rollout.vllm.arguments import BACKENDS
    from r1rl.rollout.vllm.worker import register

    register()
    register()
    assert set(BACKENDS.values()) <= WeightTransferEngineFactory._registry.keys()

"""What an update and a decoded token would launch on a GPU, and where the host would wait for it: counted without one.

The bounds are what was counted when they were last lowered; code that needs more has to say why here.
"""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.utils import DistributedType

from r1rl.config import RunConfig
from r1rl.grpo.batch import Batch, Sample
from r1rl.grpo.learner import Learner
from r1rl.model import logprobs
from r1rl.model.load import Policy
from tests.support.paper_gpu import CUDA, PaperGPU, on_paper, paper_gpu


def accelerator() -> Any:
    """One process on the paper GPU."""
    return SimpleNamespace(
        num_processes=1,
        process_index=0,
        device=CUDA,
        distributed_type=DistributedType.NO,
        prepare=lambda *objects: objects,
        no_sync=lambda module: contextlib.nullcontext(),
        backward=torch.Tensor.backward,
        clip_grad_norm_=torch.nn.utils.clip_grad_norm_,
        reduce=lambda tensor, how: tensor,
    )


def samples(count: int, completion: int = 12) -> list[Sample]:
    return [
        Sample(
            prompt_ids=np.arange(3, 13),
            completion_ids=np.arange(completion) + 5,
            advantage=1.0 - 2 * (i % 2),
            engine_logps=np.full(completion, -2.0, dtype=np.float32),
        )
        for i in range(count)
    ]


def learner(policy: Policy, **grpo: Any) -> Learner:
    cfg = RunConfig(grpo={"beta": 0.0, "tokens_per_microbatch": 4 * 22, **grpo}).grpo
    on_paper(policy.model)
    return Learner(
        policy, cfg, accelerator(), dtype="bfloat16", temperature=0.7, max_length=32, total_updates=9, seed=0
    )  # fmt: skip


def counted(gpu: PaperGPU, learner: Learner, micro_batches: int) -> int:
    """Launches of learning from four samples per micro-batch; ``gpu`` holds what was counted."""
    gpu.clear()
    metrics = learner.update(Batch(samples(4 * micro_batches)))
    assert metrics["policy/micro_batches"] * metrics["policy/updates"] == micro_batches
    return sum(gpu.launches.values())


@pytest.fixture
def fused(monkeypatch: Any) -> None:
    """As on a machine with Triton, which torch's CUDA wheels install."""
    monkeypatch.setattr(logprobs, "_has_triton", lambda: True)


@pytest.mark.parametrize(
    ("grpo", "waits"),
    [({}, 1), ({"beta": 0.1}, 1), ({"minibatches": 2}, 3)],
    ids=["one update", "with a reference", "old log-probabilities and two updates"],
)
def test_the_host_waits_once_per_update(tiny_policy: Policy, fused: None, grpo: dict[str, Any], waits: int) -> None:
    with paper_gpu() as gpu:
        counted(gpu, learner(tiny_policy, **grpo), 4)
        assert dict(gpu.syncs) == {"copy to host": waits}
        assert gpu.uploads <= 11 * 4 * (1 if waits == 1 else 2)


def test_launches_per_micro_batch_and_update(tiny_policy: Policy, fused: None) -> None:
    """Of a model of two layers; what FakeTensor keeps from torch's multi-tensor clipping is in the update's share."""
    with paper_gpu() as gpu:
        trained = learner(tiny_policy)
        counted(gpu, trained, 1)  # AdamW allocates in its first step
        one = counted(gpu, trained, 1)
        assert gpu.launches["r1rl::token_statistics"] == gpu.launches["r1rl::logits_gradient_"] == 1
        assert gpu.launches["torch_attn::_varlen_attn"] == gpu.launches["torch_attn::_varlen_attn_backward"] == 2
        per_micro_batch = (counted(gpu, trained, 4) - one) / 3
        assert per_micro_batch <= 518
        assert one - per_micro_batch <= 62

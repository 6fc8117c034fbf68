"""Single process, DDP and ZeRO-1/2/3 on two learn the same from the same rollouts, and resume from each other."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from tests.support.parity import CASES, needs_deepspeed, same, same_weights
from tests.support.replay import Job, replay
from tests.support.waits import HANG_S

pytestmark = pytest.mark.integration
SCRIPT = str(Path(__file__).parents[1] / "support" / "replay.py")
HALF = 5

BACKENDS = [
    "ddp",
    pytest.param("zero1", marks=[needs_deepspeed, pytest.mark.slow]),
    pytest.param("zero2", marks=needs_deepspeed),
    pytest.param("zero3", marks=needs_deepspeed),
]


@pytest.fixture(scope="module")
def single(model, rollouts, tmp_path_factory):
    """The curves of one process, each with a checkpoint half-way."""
    folder = tmp_path_factory.mktemp("single")
    accelerator = Accelerator(cpu=True)
    results = {}
    for name, grpo in CASES.items():
        job = Job(str(model), rollouts, str(folder / name), grpo, save_after=HALF)
        results[name] = (job, replay(job, accelerator))
    return results


@pytest.mark.timeout(3 * HANG_S)
@pytest.mark.parametrize("backend", BACKENDS)
def test_two_processes_follow_one_and_take_over_from_each_other(backend, single, rollouts, launch, tmp_path):
    jobs, resumed = [], []
    for name, (job, _) in single.items():
        jobs.append(Job(job.model, rollouts, str(tmp_path / name), job.grpo, save_after=HALF))
        resumed.append(
            Job(
                job.model,
                rollouts,
                str(tmp_path / f"{name}-1to2"),
                job.grpo,
                first=HALF,
                resume=job.out + "-checkpoint",
            )
        )
    (tmp_path / "jobs.json").write_text(json.dumps([asdict(job) for job in jobs + resumed]))
    launch(backend, SCRIPT, str(tmp_path / "jobs.json"))
    for name, (job, expected) in single.items():
        same(json.loads((tmp_path / f"{name}.json").read_text()), expected)
        same_weights(str(tmp_path / name), job.out, 2e-4)
        same(json.loads((tmp_path / f"{name}-1to2.json").read_text()), expected, HALF)
        same_weights(str(tmp_path / f"{name}-1to2"), job.out, 2e-4)
        back = Job(job.model, rollouts, str(tmp_path / f"{name}-2to1"), job.grpo, first=HALF)
        back.resume = str(tmp_path / f"{name}-checkpoint")
        same(replay(back, Accelerator(cpu=True)), expected, HALF)


@pytest.mark.timeout(3 * HANG_S)
@pytest.mark.parametrize("backend", ["ddp", pytest.param("zero2", marks=needs_deepspeed)])
def test_adapters_and_recomputed_activations_on_two_processes(backend, model, rollouts, launch, tmp_path):
    config = {"lora": {"rank": 3}, "gradient_checkpointing": True}
    grpo = {"beta": 0.05, "learning_rate": 1e-2, "tokens_per_microbatch": 80}
    one, two = (Job(str(model), rollouts[:6], str(tmp_path / name), grpo, config, save_after=3) for name in "12")
    expected = replay(one, Accelerator(cpu=True))
    (tmp_path / "jobs.json").write_text(json.dumps([asdict(two)]))
    launch(backend, SCRIPT, str(tmp_path / "jobs.json"))
    same(json.loads((tmp_path / "2.json").read_text()), expected)
    same_weights(two.out, one.out, 1e-4)
    assert all(".lora_" in name for name in torch.load(f"{two.out}.weights.pt", weights_only=True))


def test_one_process_resumes_bit_for_bit(single, tmp_path):
    for name, (job, expected) in single.items():
        again = Job(job.model, job.rollouts, str(tmp_path / name), job.grpo, first=HALF, resume=job.out + "-checkpoint")
        found = replay(again, Accelerator(cpu=True))
        assert found["history"] == expected["history"][HALF:]
        assert found["logps"] == expected["logps"]
        same_weights(again.out, job.out, 1e-30)


def test_the_rollouts_have_an_empty_rank_and_an_update_with_nothing_to_learn(single):
    history = single["masked"][1]["history"]
    assert history[3]["policy/imbalance"] == 1.0 * 2 or history[3]["policy/forwarded_fraction"] == 0.5
    assert history[6]["policy/micro_batches"] == 0

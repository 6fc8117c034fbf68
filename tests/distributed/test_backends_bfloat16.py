"""In bfloat16: DDP and every ZeRO stage on two processes learn what one process learns, and resume."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate import Accelerator

from tests.support.parity import needs_deepspeed
from tests.support.replay import Job, replay
from tests.support.waits import HANG_S

pytestmark = pytest.mark.integration
SCRIPT = str(Path(__file__).parents[1] / "support" / "replay.py")
HALF, END = 3, 6
# Steps of several times the distance between bfloat16 numbers: of smaller ones the weights would miss a part.
GRPO = {"beta": 0.05, "ref_update_every": 8, "minibatches": 2, "learning_rate": 5e-3, "tokens_per_microbatch": 80}
METRICS = ("policy/loss", "policy/grad_norm", "policy/kl")
BACKENDS = [
    pytest.param("ddp", marks=pytest.mark.slow),
    pytest.param("zero1", marks=needs_deepspeed),
    pytest.param("zero2", marks=[needs_deepspeed, pytest.mark.slow]),
    pytest.param("zero3", marks=needs_deepspeed),
    pytest.param("zero3-offload", marks=[needs_deepspeed, pytest.mark.slow]),
]


@pytest.fixture(scope="module")
def single(model: Path, rollouts: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, dict[str, Any]]:
    """The curve of one process, with a checkpoint half-way."""
    out = str(tmp_path_factory.mktemp("single") / "one")
    job = Job(str(model), rollouts[:END], out, GRPO, {"dtype": "bfloat16"}, save_after=HALF)
    return job, replay(job, Accelerator(cpu=True))


@pytest.fixture(scope="module")
def noise(single: tuple[Job, dict[str, Any]]) -> dict[str, float]:
    """How far bfloat16 itself moves each curve of one process, at most: the difference from float32."""
    job, found = single
    exact = replay(replace(job, out=f"{job.out}-exact", config={}, save_after=-1), Accelerator(cpu=True))
    return {metric: float(np.abs(curve(found, metric) - curve(exact, metric)).max()) for metric in METRICS}


def curve(found: dict[str, Any], metric: str) -> np.ndarray:
    return np.array([h.get(metric, 0.0) for h in found["history"]])


def close(found: dict[str, Any], expected: dict[str, Any], noise: dict[str, float], first: int = 0) -> None:
    """Under ZeRO the weights and the residual stream are bfloat16 too, which one process keeps in float32."""
    for metric in METRICS:
        gap = np.abs(curve(found, metric) - curve(expected, metric)[first:])
        assert gap.max() <= 4 * noise[metric], f"{metric}: {gap} with noise {noise[metric]}"
    assert found["progress"] == expected["progress"]


@pytest.mark.timeout(3 * HANG_S)
@pytest.mark.parametrize("backend", BACKENDS)
def test_two_processes_follow_one_and_resume(
    backend: str, single: Any, noise: dict[str, float], launch: Callable[..., str], tmp_path: Path
) -> None:
    job, expected = single
    whole = replace(job, out=str(tmp_path / "whole"))
    resumed = replace(whole, out=str(tmp_path / "2to2"), first=HALF, resume=f"{whole.out}-checkpoint", save_after=-1)
    taken_over = replace(resumed, out=str(tmp_path / "1to2"), resume=f"{job.out}-checkpoint")
    (tmp_path / "jobs.json").write_text(json.dumps([asdict(each) for each in (whole, resumed, taken_over)]))
    launch(backend, SCRIPT, str(tmp_path / "jobs.json"))
    found = json.loads((tmp_path / "whole.json").read_text())
    close(found, expected, noise)
    again = json.loads((tmp_path / "2to2.json").read_text())
    for metric in METRICS:
        np.testing.assert_allclose(curve(again, metric), curve(found, metric)[HALF:], rtol=1e-3, atol=1e-6)
    close(json.loads((tmp_path / "1to2.json").read_text()), expected, noise, HALF)
    back = replace(job, out=str(tmp_path / "2to1"), first=HALF, resume=f"{whole.out}-checkpoint", save_after=-1)
    close(replay(back, Accelerator(cpu=True)), expected, noise, HALF)

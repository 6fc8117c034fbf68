"""An entropy bonus and covariance losses in the learner: independent of how the update is cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from r1rl.config import GRPOConfig, ModelConfig
from r1rl.grpo.batch import Batch, Sample
from r1rl.grpo.learner import Learner
from r1rl.model.load import load_policy

LENGTHS = (5, 9, 3, 7, 6, 8)


def batch(vocabulary: int) -> Batch:
    rng = np.random.default_rng(0)
    rows = zip(LENGTHS, (1.0, -1.0, 0.0, 0.5, 0.0, -0.5), strict=True)
    return Batch(
        [
            Sample(rng.integers(0, vocabulary, 4), rng.integers(0, vocabulary, n), a, np.full(n, -5.7, np.float32))
            for n, a in rows
        ]
    )


def updated(folder, **keys: object) -> tuple[dict[str, float], torch.Tensor]:
    """Metrics and weights after one rollout."""
    cpu = torch.device("cpu")
    policy = load_policy(ModelConfig(path=str(folder)), cpu)
    config = GRPOConfig.model_validate({"beta": 0.0, "learning_rate": 1e-2, "importance_cap": 0, **keys})
    learner = Learner(
        policy, config, Accelerator(cpu=True), dtype="float32", temperature=1.0, max_length=8, total_updates=4, seed=0
    )
    metrics = learner.update(batch(policy.model.config.vocab_size))
    return metrics, torch.cat([p.detach().flatten() for p in policy.model.parameters()])


COVARIANCE = {"fraction": 0.2, "low": -10.0, "high": 10.0}
CASES = {
    "entropy": {"entropy_coef": 0.5},
    "clip_cov": {"loss": "clip_cov", "covariance": COVARIANCE},
    "kl_cov": {"loss": "kl_cov", "covariance": COVARIANCE, "epochs": 3},
}


@pytest.mark.parametrize("case", CASES)
def test_any_cut_into_micro_batches_gives_the_same_update(tiny_folder, case: str) -> None:
    whole, weights = updated(tiny_folder, **CASES[case])
    cut, others = updated(tiny_folder, **CASES[case], tokens_per_microbatch=16)
    assert cut["policy/micro_batches"] > whole["policy/micro_batches"] == 1
    assert cut["policy/loss"] == pytest.approx(whole["policy/loss"], rel=1e-4, abs=1e-6)
    assert torch.allclose(weights, others, atol=2e-5)


@pytest.mark.parametrize("case", CASES)
def test_it_changes_what_is_learned(tiny_folder, case: str) -> None:
    epochs = CASES[case].get("epochs", 1)
    _, plain = updated(tiny_folder, loss="dapo", epochs=epochs)
    _, other = updated(tiny_folder, **{"loss": "dapo", **CASES[case]})
    assert not torch.allclose(plain, other, atol=1e-4)


def test_a_bonus_reaches_completions_without_advantage(tiny_folder) -> None:
    metrics, _ = updated(tiny_folder, entropy_coef=1.0)
    assert metrics["policy/forwarded_fraction"] == 1.0
    metrics, _ = updated(tiny_folder)
    assert metrics["policy/forwarded_fraction"] < 1.0

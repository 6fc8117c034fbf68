"""Compares two ways to train from the same rollouts, and the settings under which they are compared."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

CASES = {
    "masked": {
        "algorithm": "dapo", "mask_truncated": True, "learning_rate": 3e-3, "tokens_per_microbatch": 96,
        "weight_decay": 0.1,
    },
    "kl": {
        "beta": 0.05, "ref_update_every": 6, "minibatches": 2, "epochs": 2, "learning_rate": 1e-3,
        "tokens_per_microbatch": 80, "logprob_chunk": 16, "lr_scheduler_type": "cosine",
    },
}  # fmt: skip

needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed: pip install 'r1rl[deepspeed]'"
)


def same(found: dict, expected: dict, first: int = 0) -> None:
    for metric, tolerance in (("policy/loss", 1e-4), ("policy/grad_norm", 1e-3), ("policy/kl", 1e-4)):
        curve = [h.get(metric, 0.0) for h in found["history"]]
        wanted = [h.get(metric, 0.0) for h in expected["history"][first:]]
        np.testing.assert_allclose(curve, wanted, rtol=tolerance, atol=1e-5, err_msg=metric)
    assert found["sampled"] == expected["sampled"]
    assert found["progress"] == expected["progress"]


def same_weights(found: str, expected: str, tolerance: float) -> None:
    a, b = (torch.load(f"{out}.weights.pt", weights_only=True) for out in (found, expected))
    assert a.keys() == b.keys()
    worst = max(float((a[name] - b[name]).abs().max()) for name in a)
    assert worst < tolerance, f"weights differ by {worst:.2e}"

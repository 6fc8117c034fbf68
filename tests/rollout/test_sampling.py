from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from r1rl.rollout.sampling import choose, truncate
from r1rl.rollout.seeds import uniforms
from r1rl.types import SamplingParams


def test_samples_follow_the_distribution() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    draws = torch.from_numpy(uniforms(3, 20000))
    tokens, logps = choose(logits.expand(len(draws), -1), draws, SamplingParams(1, temperature=0.8))
    expected = (logits / 0.8).softmax(-1)
    counts = torch.bincount(tokens, minlength=4) / len(draws)
    assert torch.allclose(counts, expected, atol=0.01)
    assert torch.allclose(logps, expected.log()[tokens], atol=1e-6)


@given(st.integers(1, 30), st.floats(0.05, 1.0), st.integers(0, 20), st.integers(0, 2**32))
def test_what_is_filtered_out_is_never_sampled(size: int, top_p: float, top_k: int, seed: int) -> None:
    logits = torch.randn(1, size, generator=torch.Generator().manual_seed(seed)) * 3
    params = SamplingParams(1, 1.0, top_p, top_k)
    kept = truncate(logits.log_softmax(-1), params)[0].isfinite()
    assert kept[logits[0].argmax()]
    draws = torch.from_numpy(uniforms(seed, 200))
    tokens, logps = choose(logits.expand(200, -1), draws, params)
    assert kept[tokens].all()
    assert logps.isfinite().all()
    probs = logits.softmax(-1)[0]
    most_likely = probs.topk(min(top_k, size) if top_k > 0 else size).values.sum()
    assert probs[kept].sum() / most_likely >= min(top_p, 1.0) - 1e-5


def test_streams_are_reproducible_and_apart() -> None:
    assert np.array_equal(uniforms(1, 5), uniforms(1, 5))
    assert not np.array_equal(uniforms(1, 5), uniforms(2, 5))
    assert np.array_equal(uniforms(1, 9)[:5], uniforms(1, 5))
    assert (uniforms(0, 1000) > 0).all()

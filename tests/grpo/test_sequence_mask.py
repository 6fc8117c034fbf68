"""``grpo.sequence_mask``: completions that the engine sampled from a distribution too far off are left out whole."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st

from r1rl.config import GRPOConfig
from r1rl.grpo.batch import Batch, MicroBatch, Sample, micro_batch
from r1rl.grpo.learner import Learner, near
from r1rl.model.forward import PackedTokens, PolicyForward
from r1rl.model.load import Policy

CPU = torch.device("cpu")
LENGTHS = (3, 7, 1, 5)


def packed(log_ratios: list[np.ndarray]) -> tuple[torch.Tensor, MicroBatch]:
    """The learner's log-probabilities, and a micro-batch whose engine was ``log_ratios`` below them."""
    learner = [np.full(len(r), -1.5, np.float32) for r in log_ratios]
    samples = [
        Sample(np.array([1, 2]), np.arange(len(r)) + 3, 1.0, (mine - r).astype(np.float32))
        for mine, r in zip(learner, log_ratios, strict=True)
    ]
    return torch.from_numpy(np.concatenate(learner)), micro_batch(samples, CPU)


def kept(log_ratios: list[np.ndarray], bound: float) -> list[list[float]]:
    """The mask by completion."""
    mask_C = near(*packed(log_ratios), bound)
    return [part.tolist() for part in mask_C.split([len(r) for r in log_ratios])]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_completion_stays_or_goes_whole_by_its_mean(sign: int) -> None:
    at = sign * math.log(2)
    one_wild_token = np.array([5 * at, 0, 0, 0, 0, 0, 0], np.float32)  # mean 5/7 of the bound
    assert kept([np.full(3, 0.99 * at), one_wild_token, np.array([1.01 * at]), np.full(5, 1.1 * at)], 2.0) == [
        [1.0] * 3,
        [1.0] * 7,
        [0.0],
        [0.0] * 5,
    ]


def test_ratios_that_cancel_count_as_none() -> None:
    assert kept([np.array([3.0, -3.0, 0.0])], 1.001) == [[1.0] * 3]


@given(
    st.lists(st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=9), min_size=1, max_size=5), st.floats(1.01, 20)
)
def test_the_mask_is_the_definition_and_knows_no_neighbours(ratios: list[list[float]], bound: float) -> None:
    arrays = [np.array(r, np.float32) for r in ratios]
    means = [np.mean([np.float64(x) for x in r]) for r in ratios]
    if any(abs(abs(m) - math.log(bound)) < 1e-4 for m in means):
        return  # a mean on the bound is a matter of rounding
    expected = [[float(abs(m) <= math.log(bound))] * len(r) for m, r in zip(means, ratios, strict=True)]
    assert kept(arrays, bound) == expected
    assert [kept([a], bound)[0] for a in arrays] == expected


def test_a_ratio_that_is_not_a_number_is_left_out() -> None:
    assert kept([np.array([np.nan, 0.0]), np.array([np.inf]), np.zeros(2)], 2.0) == [[0.0] * 2, [0.0], [1.0] * 2]


@pytest.fixture
def samples(tiny_policy: Policy) -> list[Sample]:
    """Four completions as an engine of exactly the learner's weights would bring them."""
    rng = np.random.default_rng(0)
    vocabulary = tiny_policy.model.config.vocab_size
    prompts = [rng.integers(0, vocabulary, 4) for _ in LENGTHS]
    completions = [rng.integers(0, vocabulary, n) for n in LENGTHS]
    tokens = [np.concatenate(pair).tolist() for pair in zip(prompts, completions, strict=True)]
    with torch.no_grad():
        logps_C, _ = PolicyForward(tiny_policy.model, 1.0, 64, None)(PackedTokens.build(tokens, [4] * 4, CPU))
    rows = zip(prompts, completions, (1.0, -1.0, 0.5, -0.5), logps_C.split(list(LENGTHS)), strict=True)
    return [Sample(p, c, a, logps.numpy()) for p, c, a, logps in rows]


def learner(policy: Policy, **dials: object) -> Learner:
    cfg = GRPOConfig.model_validate({"beta": 0.0, "learning_rate": 1e-3, **dials})
    return Learner(
        policy, cfg, Accelerator(cpu=True), dtype="float32", temperature=1.0, max_length=8, total_updates=4, seed=0
    )


def off(sample: Sample, factor: float) -> Sample:
    """As if the engine had sampled each token with its probability divided by ``factor``."""
    return Sample(
        sample.prompt_ids, sample.completion_ids, sample.advantage,
        (sample.engine_logps - math.log(factor)).astype(np.float32), sample.keep,
    )  # fmt: skip


@pytest.mark.parametrize("factor", [3.0, 1 / 3.0])
@pytest.mark.parametrize("micro", [16, 4096])
def test_the_loss_sees_zero_weight_on_exactly_the_far_completions(
    tiny_policy: Policy, samples: list[Sample], factor: float, micro: int
) -> None:
    batch = [samples[0], off(samples[1], factor), samples[2], off(samples[3], 1.5)]
    chunk = micro_batch(batch, CPU)
    for mask, second in ((2.0, 0.0), (4.0, 1.0), (None, 1.0)):
        mine = learner(tiny_policy, sequence_mask=mask, tokens_per_microbatch=micro)
        with torch.no_grad():
            logps_C, _ = mine.backend.forward(chunk.tokens)
        inputs = mine._loss_inputs(chunk, logps_C, None)
        wanted = [w for w, n in zip((1.0, second, 1.0, 1.0), LENGTHS, strict=True) for _ in range(n)]
        assert inputs.keep_C.tolist() == wanted
    mine = learner(tiny_policy, sequence_mask=2.0, tokens_per_microbatch=micro)
    assert mine.update(Batch(batch))["policy/sequence_masked"] == pytest.approx(LENGTHS[1] / sum(LENGTHS))


@pytest.mark.parametrize("loss", ["grpo", "dapo", "dr_grpo", "gspo", "cispo"])
@pytest.mark.parametrize("updates", [1, 2])
def test_leaving_out_equals_never_keeping(tiny_folder, samples: list[Sample], loss: str, updates: int) -> None:
    """The same weights as if the far completion had been marked ``keep`` False from the start; its
    neighbours' importance weights and every denominator stay."""
    far = off(samples[1], 3.0)
    never = Sample(far.prompt_ids, far.completion_ids, far.advantage, far.engine_logps, keep=False)
    ends = []
    for second, mask in ((far, 2.0), (never, None)):
        policy = loaded(tiny_folder)
        mine = learner(policy, sequence_mask=mask, loss=loss, epochs=updates)
        mine.update(Batch([fresh(samples[0]), fresh(second), fresh(samples[2]), fresh(off(samples[3], 1.5))]))
        ends.append([p.detach().clone() for p in policy.model.parameters()])
    before = [p.detach() for p in loaded(tiny_folder).model.parameters()]
    assert max(float((a - b).abs().max()) for a, b in zip(ends[0], before, strict=True)) > 1e-5
    # One of the two passes holds a sequence more, so sums round differently, and Adam divides that by small gradients:
    # a hundredth of a step of lr is rounding, a mistake would be steps.
    for a, b in zip(*ends, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_all_left_out_is_an_update_that_moves_nothing(tiny_folder, samples: list[Sample]) -> None:
    policy = loaded(tiny_folder)
    before = [p.detach().clone() for p in policy.model.parameters()]
    metrics = learner(policy, sequence_mask=1.5).update(Batch([off(s, 2.0) for s in samples]))
    assert metrics["policy/sequence_masked"] == 1.0
    assert metrics["policy/grad_norm"] == 0.0
    assert all(torch.equal(a, b) for a, b in zip(before, policy.model.parameters(), strict=True))


def test_the_bound_must_be_above_one() -> None:
    with pytest.raises(ValueError, match="greater than 1"):
        GRPOConfig(sequence_mask=1.0)


def fresh(sample: Sample) -> Sample:
    """Without what an update writes into it."""
    return Sample(sample.prompt_ids, sample.completion_ids, sample.advantage, sample.engine_logps, sample.keep)


def loaded(folder) -> Policy:
    from r1rl.config import ModelConfig
    from r1rl.model.load import load_policy

    return load_policy(ModelConfig(path=str(folder)), CPU)

"""The losses against TRL's own on the same tensors, and against every way of cutting an update."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from r1rl.config.grpo import CovarianceConfig
from r1rl.grpo.losses import LossInputs, LossSettings, UpdateSize, k3, policy_loss, select_between
from r1rl.registry import LOSSES

LENGTHS = (4, 11, 7, 1, 9)
MAX_LENGTH = 16
KEPT = (True, True, False, True, True)


def tensors(seed: int) -> dict[str, torch.Tensor]:
    """Padded [B, T] tensors as TRL takes them."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(LENGTHS), max(LENGTHS))
    logps = -torch.rand(shape, generator=generator) * 2
    return {
        "logps": logps,
        "old": logps + 0.3 * torch.randn(shape, generator=generator),
        "ref": logps + 0.2 * torch.randn(shape, generator=generator),
        "advantages": torch.randn(len(LENGTHS), generator=generator),
        "entropy": torch.rand(shape, generator=generator) * 3,
        "selected": torch.rand(shape, generator=generator) < 0.3,
        "mask": torch.tensor([[float(t < n) for t in range(shape[1])] for n in LENGTHS]),
    }


def inputs_of(x: dict[str, torch.Tensor], rows: list[int], kept: tuple[bool, ...]) -> tuple[LossInputs, torch.Tensor]:
    """The same rows packed, as r1rl takes them; also the leaf that receives the gradient."""
    lengths = torch.tensor([LENGTHS[i] for i in rows])
    leaf = torch.cat([x["logps"][i, : LENGTHS[i]] for i in rows]).clone().requires_grad_()

    def pick(name: str) -> torch.Tensor:
        return torch.cat([x[name][i, : LENGTHS[i]] for i in rows])

    return LossInputs(
        logps_C=leaf,
        old_logps_C=pick("old"),
        ref_logps_C=pick("ref"),
        entropy_C=pick("entropy"),
        selected_C=pick("selected"),
        advantages_C=x["advantages"][rows].repeat_interleave(lengths),
        keep_C=torch.tensor([float(kept[i]) for i in rows]).repeat_interleave(lengths),
        sequence_C=torch.arange(len(rows)).repeat_interleave(lengths),
        lengths_S=lengths.float(),
    ), leaf


def size_of(kept: tuple[bool, ...]) -> UpdateSize:
    return UpdateSize(len(LENGTHS), sum(LENGTHS), sum(n for n, k in zip(LENGTHS, kept, strict=True) if k))


ALL = (True,) * len(LENGTHS)
ORACLE = {
    # ours: TRL's loss_type, importance_sampling_level, and its epsilon_high for our clip_high
    "grpo": ("grpo", "token", lambda high: high),
    "bnpo": ("bnpo", "token", lambda high: high),
    "dr_grpo": ("dr_grpo", "token", lambda high: high),
    "dapo": ("dapo", "token", lambda high: high),
    "gspo": ("grpo", "sequence", lambda high: high),
    "cispo": ("cispo", "token", lambda high: 1 + high),
}


@pytest.fixture(scope="module")
def trl_trainer(tiny_folder, tmp_path_factory):
    """A real TRL trainer whose forward pass returns the log-probabilities it is handed."""
    trl = pytest.importorskip("trl", reason="TRL is the oracle: pip install 'r1rl[trl]'")
    from datasets import Dataset

    class Handed(trl.GRPOTrainer):
        def _get_per_token_logps_and_entropies(self, *args, **kwargs):
            return self.handed, self.entropies, None

    config = trl.GRPOConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")),
        use_cpu=True,
        report_to="none",
        per_device_train_batch_size=2,
        num_generations=2,
        max_completion_length=MAX_LENGTH,
        bf16=False,
        disable_tqdm=True,
        use_bias_correction_kl=False,  # the paper's k3, not V3.2's
    )
    return Handed(
        str(tiny_folder),
        reward_funcs=lambda **_: [0.0],
        args=config,
        train_dataset=Dataset.from_dict({"prompt": ["a", "b"]}),
    )


@pytest.mark.parametrize("name", list(ORACLE))
@pytest.mark.parametrize(("beta", "bonus"), [(0.0, 0.0), (0.04, 0.0), (0.04, 0.1)])
def test_equals_trl_on_identical_tensors(trl_trainer, name: str, beta: float, bonus: float) -> None:
    x, high = tensors(1), 0.28
    loss_type, level, epsilon_high = ORACLE[name]
    trainer = trl_trainer
    trainer.loss_type, trainer.importance_sampling_level = loss_type, level
    trainer.beta, trainer.epsilon_low, trainer.epsilon_high = beta, 0.2, epsilon_high(high)
    trainer.max_completion_length = MAX_LENGTH
    trainer.entropy_coef, trainer._entropy_bonus_enabled = bonus, bonus > 0
    trainer.handed, trainer.entropies = x["logps"].clone().requires_grad_(), x["entropy"]
    trainer.model.eval()
    theirs = trainer._compute_loss(
        trainer.model,
        {
            "prompt_ids": torch.ones(len(LENGTHS), 1, dtype=torch.long),
            "prompt_mask": torch.ones(len(LENGTHS), 1, dtype=torch.long),
            "completion_ids": torch.ones_like(x["mask"], dtype=torch.long),
            "completion_mask": x["mask"].long(),
            "advantages": x["advantages"],
            "old_per_token_logps": x["old"],
            "ref_per_token_logps": x["ref"],
            "num_items_in_batch": x["mask"].sum(),
        },
    )
    theirs.backward()
    inputs, leaf = inputs_of(x, list(range(len(LENGTHS))), ALL)
    settings = LossSettings(LOSSES[name], 0.2, high, beta, MAX_LENGTH, bonus)
    ours = policy_loss(inputs, settings, size_of(ALL)).loss
    ours.backward()
    expected = torch.cat([trainer.handed.grad[i, :n] for i, n in enumerate(LENGTHS)])
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    assert torch.allclose(leaf.grad, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", list(LOSSES))
@given(cut=st.lists(st.integers(0, 3), min_size=len(LENGTHS), max_size=len(LENGTHS)), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_any_split_into_micro_batches_gives_the_same_loss_and_gradient(name: str, cut: list[int], seed: int) -> None:
    x, s = tensors(seed), LossSettings(LOSSES[name], 0.2, 0.3, 0.01, MAX_LENGTH, entropy_coef=0.05)
    whole, leaf = inputs_of(x, list(range(len(LENGTHS))), KEPT)
    expected = policy_loss(whole, s, size_of(KEPT)).loss
    expected.backward()
    gradients = dict(enumerate(leaf.grad.split(list(LENGTHS))))
    total = 0.0
    for part in set(cut):
        rows = [i for i, c in enumerate(cut) if c == part]
        inputs, piece = inputs_of(x, rows, KEPT)
        share = policy_loss(inputs, s, size_of(KEPT)).loss
        share.backward()
        total += share.item()
        for i, gradient in zip(rows, piece.grad.split([LENGTHS[i] for i in rows]), strict=True):
            assert torch.allclose(gradient, gradients[i], atol=1e-7)
    assert total == pytest.approx(expected.item(), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_masked_completion_has_no_gradient_but_counts_in_the_denominator(name: str) -> None:
    x, s = tensors(3), LossSettings(LOSSES[name], 0.2, 0.3, 0.01, MAX_LENGTH)
    masked, leaf = inputs_of(x, list(range(len(LENGTHS))), KEPT)
    policy_loss(masked, s, size_of(KEPT)).loss.backward()
    gradients = leaf.grad.split(list(LENGTHS))
    assert torch.all(gradients[2] == 0)
    rows = [i for i, kept in enumerate(KEPT) if kept]
    without, piece = inputs_of(x, rows, KEPT)
    policy_loss(without, s, size_of(KEPT)).loss.backward()
    assert torch.allclose(torch.cat([gradients[i] for i in rows]), piece.grad)


def test_on_policy_gradient_is_that_of_reinforce() -> None:
    """At ratio 1 every surrogate's gradient is −A·∇log π (times its weight)."""
    x = tensors(5)
    x["old"], x["selected"] = x["logps"], torch.zeros_like(x["selected"])
    for name in LOSSES:
        inputs, leaf = inputs_of(x, list(range(len(LENGTHS))), ALL)
        s = LossSettings(LOSSES[name], 0.2, 0.2, 0.0, MAX_LENGTH)
        policy_loss(inputs, s, size_of(ALL)).loss.backward()
        weight = LOSSES[name].weight(inputs) / LOSSES[name].denominator(size_of(ALL), s)
        assert torch.allclose(leaf.grad, -inputs.advantages_C * weight, atol=1e-7), name


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20), st.lists(st.floats(-5, 5), min_size=1, max_size=20))
def test_k3_is_never_negative(a: list[float], b: list[float]) -> None:
    n = min(len(a), len(b))
    assert np.all(k3(torch.tensor(a[:n]), torch.tensor(b[:n])).numpy() >= -1e-5)


def listing(x: dict[str, torch.Tensor], method: str, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The paper's listing (arXiv 2505.22617) on one flat batch: the loss per token, and what it selects."""
    pick = [torch.cat([x[name][i, :n] for i, n in enumerate(LENGTHS)]) for name in ("logps", "old")]
    log_prob, old = pick
    advantages = x["advantages"].repeat_interleave(torch.tensor(LENGTHS))
    covs = (old - old.mean()) * (advantages - advantages.mean())
    ratio, number = (log_prob - old).exp(), int(share * len(covs))
    first = -ratio * advantages
    if method == "clip_cov":
        chosen = torch.nonzero((covs > 0.1) & (covs < 2.0))[:, 0]
        assert len(chosen) <= number  # so that all of them are drawn
        return torch.maximum(first, -ratio.clamp(0.8, 1.28) * advantages), chosen
    chosen = covs.topk(number).indices
    first[chosen] += 0.7 * (log_prob - old).abs()[chosen]
    return first, chosen


@pytest.mark.parametrize("name", ["clip_cov", "kl_cov"])
def test_covariance_losses_equal_the_papers_listing(name: str) -> None:
    x = tensors(7)
    cov = CovarianceConfig(fraction=0.5, low=0.1, high=2.0, kl_coef=0.7)
    s = LossSettings(LOSSES[name], 0.2, 0.28, 0.0, MAX_LENGTH, covariance=cov)
    per_token, chosen = listing(x, name, 0.5)
    inputs, _ = inputs_of(x, list(range(len(LENGTHS))), ALL)
    select = LOSSES[name].select
    old, advantages = inputs.old_logps_C.numpy(), inputs.advantages_C.numpy()
    found = select(old, advantages, s, np.random.default_rng(0))
    assert sorted(np.flatnonzero(found)) == sorted(chosen.tolist())
    x["selected"] = torch.zeros_like(x["selected"])
    for row, part in enumerate(torch.from_numpy(found).split(list(LENGTHS))):
        x["selected"][row, : LENGTHS[row]] = part
    inputs, leaf = inputs_of(x, list(range(len(LENGTHS))), ALL)
    loss = policy_loss(inputs, s, size_of(ALL)).loss
    loss.backward()
    assert loss.item() == pytest.approx(per_token.mean().item(), rel=1e-5)
    untouched = torch.all(leaf.grad[chosen] == 0)
    assert bool(untouched) == (name == "clip_cov")


def test_clip_cov_draws_a_share_of_the_tokens_between_its_bounds() -> None:
    generator = np.random.default_rng(3)
    logps, advantages = generator.normal(size=1000), generator.normal(size=1000)
    s = LossSettings(LOSSES["clip_cov"], 0.2, 0.2, 0.0, MAX_LENGTH, covariance=CovarianceConfig(fraction=0.02))
    first, second = (select_between(logps, advantages, s, np.random.default_rng(seed)) for seed in (0, 1))
    covs = (logps - logps.mean()) * (advantages - advantages.mean())
    assert first.sum() == second.sum() == 20
    assert np.all((covs[first] > 1) & (covs[first] < 5))
    assert np.any(first != second)

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1rl.grpo.advantages import advantages
from r1rl.registry import SCALES
from r1rl.scoring.scorer import weighted_sum

IN_GROUPS = sorted(set(SCALES) - {"reinforce_pp", "reinforce_pp_baseline"})
"""Scales whose advantages sum to 0 in every group; the others do over the tokens of the step."""
IN_TRL = ("batch", "group", "none")

groups = st.lists(
    st.lists(st.floats(-10, 10, width=32), min_size=2, max_size=8).map(lambda r: np.array(r, dtype=np.float64)),
    min_size=1,
    max_size=5,
)


@given(groups, st.sampled_from(IN_GROUPS))
def test_each_group_sums_to_zero_and_keeps_its_order(rewards: list[np.ndarray], scale: str) -> None:
    for r, a in zip(rewards, advantages(rewards, scale), strict=True):
        assert a.shape == r.shape
        assert abs(a.sum()) < 1e-6 * max(1.0, np.abs(a).max()) * len(a)
        assert np.all(np.diff(a[np.argsort(r, kind="stable")]) >= -1e-9)


@given(st.floats(-1e6, 1e6), st.integers(2, 16), st.sampled_from(IN_GROUPS))
def test_equal_rewards_teach_exactly_nothing(reward: float, size: int, scale: str) -> None:
    flat, other = np.full(size, reward), np.array([0.0, 1.0])
    assert np.all(advantages([flat, other], scale)[0] == 0.0)


@given(groups, st.floats(-100, 100))
def test_adding_a_constant_to_a_group_changes_nothing(rewards: list[np.ndarray], shift: float) -> None:
    for scale in set(IN_GROUPS) - {"maxrl"}:
        before, after = advantages(rewards, scale), advantages([r + shift for r in rewards], scale)
        for a, b in zip(before, after, strict=True):
            assert np.allclose(a, b, atol=1e-5)


def test_group_scaling_equals_the_textbook() -> None:
    rewards = np.array([1.0, 0.0, 0.0, 1.0, 1.0])
    assert np.allclose(advantages([rewards], "group")[0], (rewards - 0.6) / (rewards.std(ddof=1) + 1e-4))


@pytest.mark.parametrize("scale", sorted(SCALES))
def test_no_groups_give_no_advantages(scale: str) -> None:
    assert advantages([], scale) == []


@given(groups, st.sampled_from(sorted(SCALES)), st.data())
def test_the_unscored_change_nothing_for_the_others(rewards: list[np.ndarray], scale: str, data: st.DataObject) -> None:
    places = [data.draw(st.lists(st.integers(0, len(r)), max_size=3).map(sorted)) for r in rewards]
    mixed = [np.insert(r, at, np.nan) for r, at in zip(rewards, places, strict=True)]
    expected = advantages(rewards, scale)
    for r, got, alone in zip(mixed, advantages(mixed, scale), expected, strict=True):
        assert np.all(got[np.isnan(r)] == 0.0)
        assert np.array_equal(got[~np.isnan(r)], alone)


@pytest.mark.parametrize("scale", IN_GROUPS)
def test_fewer_than_two_scored_teach_nothing(scale: str) -> None:
    nan = math.nan
    one, none, other = np.array([nan, 1.0, nan]), np.array([nan, nan]), np.array([0.0, 1.0])
    found = advantages([one, none, other], scale)
    assert [np.all(a == 0) for a in found] == [True, True, False]
    assert np.all(advantages([one], scale)[0] == 0)


FIRST = [1.0, None, 1.0, 1.0, None, None, 0.5, None, 0.25, 1.0, None, 0.0]
SECOND = [0.5, None, 0.0, 1.0, 1.0, None, 0.5, None, None, 0.0, None, 0.0]
"""Two rewards of three groups of four; the second group has one completion with both, and two with neither."""


@pytest.mark.parametrize("scale", IN_TRL)
def test_none_counts_as_it_does_in_trl(tiny_folder: Path, tmp_path: Path, scale: str) -> None:
    trl = pytest.importorskip("trl", reason="TRL is the oracle: pip install 'r1rl[trl]'")
    from datasets import Dataset

    config = trl.GRPOConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        report_to="none",
        per_device_train_batch_size=12,
        num_generations=4,
        max_completion_length=2,
        scale_rewards=scale,
        reward_weights=[1.0, 0.5],
        bf16=False,
        disable_tqdm=True,
    )
    rewards = [lambda **_: FIRST, lambda **_: SECOND]
    for number, function in enumerate(rewards):
        function.__name__ = f"reward_{number}"
    prompts = [{"prompt": letter} for letter in "aaaabbbbcccc"]
    trainer = trl.GRPOTrainer(
        str(tiny_folder), reward_funcs=rewards, args=config, train_dataset=Dataset.from_list(prompts)
    )
    theirs = trainer._generate_and_score_completions(prompts)["advantages"].numpy().reshape(3, 4)
    by_reward = {"first": np.array(FIRST, dtype=float), "second": np.array(SECOND, dtype=float)}
    total = weighted_sum(by_reward, {"first": 1.0, "second": 0.5}, 12).reshape(3, 4)
    np.testing.assert_allclose(advantages(list(total), scale), theirs, atol=1e-5)


def test_rloo_counts_as_it_does_in_trl(tiny_folder: Path, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl", reason="TRL is the oracle: pip install 'r1rl[trl]'")
    from datasets import Dataset

    def reward(**_: object) -> list[float | None]:
        return FIRST

    config = trl.RLOOConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        report_to="none",
        per_device_train_batch_size=12,
        num_generations=4,
        max_completion_length=2,
        beta=0.0,
        bf16=False,
        disable_tqdm=True,
    )
    prompts = [{"prompt": letter} for letter in "aaaabbbbcccc"]
    trainer = trl.RLOOTrainer(
        str(tiny_folder), reward_funcs=reward, args=config, train_dataset=Dataset.from_list(prompts)
    )
    theirs = trainer._generate_and_score_completions(prompts)["advantages"].numpy().reshape(3, 4)
    ours = advantages(list(np.array(FIRST, dtype=float).reshape(3, 4)), "rloo")
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def random_step(seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Rewards of three groups, and the completions' lengths."""
    generator = np.random.default_rng(seed)
    return [generator.normal(size=n) for n in (4, 3, 6)], [generator.integers(1, 50, n) * 1.0 for n in (4, 3, 6)]


def test_rloo_is_the_mean_over_the_others() -> None:
    """arXiv 2402.14740, section 4.2: r_i minus the mean of r_j over j ≠ i."""
    rewards, lengths = random_step(0)
    for r, a in zip(rewards, advantages(rewards, "rloo", lengths), strict=True):
        assert np.allclose(a, [r[i] - np.mean(np.delete(r, i)) for i in range(len(r))])


@pytest.mark.parametrize(("scale", "baseline"), [("reinforce_pp", False), ("reinforce_pp_baseline", True)])
def test_reinforce_pp_is_normal_over_the_tokens_of_the_step(scale: str, baseline: bool) -> None:
    """arXiv 2501.03262, eq. 10, on the whole list of tokens, each with its completion's reward."""
    rewards, lengths = random_step(1)
    tokens: list[float] = []
    for r, n in zip(rewards, lengths, strict=True):
        for value, length in zip(r, n, strict=True):
            tokens += [value - (np.mean(r) if baseline else 0)] * int(length)
    normal = (np.array(tokens) - np.mean(tokens)) / (np.std(tokens) + 1e-4)
    ours = np.concatenate(advantages(rewards, scale, lengths))
    assert np.allclose(np.repeat(ours, np.concatenate(lengths).astype(int)), normal)


def test_reinforce_pp_learns_from_a_group_of_equal_rewards() -> None:
    right, wrong = advantages([np.ones(3), np.zeros(3)], "reinforce_pp")
    assert np.all(right > 0.9)
    assert np.all(wrong < -0.9)
    assert np.all(np.concatenate(advantages([np.ones(3), np.ones(2)], "reinforce_pp")) == 0)


def test_maxrl_averages_over_the_right_completions() -> None:
    """arXiv 2602.02710: the mean of the right ones' scores ∇log π less the mean of all, whatever the scores are."""
    generator = np.random.default_rng(2)
    for rewards in ([0, 1, 0, 0, 1], [0, 0, 0, 1], [1, 1, 0]):
        r, scores = np.array(rewards, dtype=float), generator.normal(size=len(rewards))
        [a] = advantages([r], "maxrl")
        assert np.mean(a * scores) == pytest.approx(scores[r == 1].mean() - scores.mean())
    assert np.all(np.concatenate(advantages([np.zeros(4), np.ones(4), np.array([-1.0, 0.0])], "maxrl")) == 0)

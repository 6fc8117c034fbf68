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

groups = st.lists(
    st.lists(st.floats(-10, 10, width=32), min_size=2, max_size=8).map(lambda r: np.array(r, dtype=np.float64)),
    min_size=1,
    max_size=5,
)


@given(groups, st.sampled_from(sorted(SCALES)))
def test_each_group_sums_to_zero_and_keeps_its_order(rewards: list[np.ndarray], scale: str) -> None:
    for r, a in zip(rewards, advantages(rewards, scale), strict=True):
        assert a.shape == r.shape
        assert abs(a.sum()) < 1e-6 * max(1.0, np.abs(a).max()) * len(a)
        assert np.all(np.diff(a[np.argsort(r, kind="stable")]) >= -1e-9)


@given(st.floats(-1e6, 1e6), st.integers(2, 16), st.sampled_from(sorted(SCALES)))
def test_equal_rewards_teach_exactly_nothing(reward: float, size: int, scale: str) -> None:
    flat, other = np.full(size, reward), np.array([0.0, 1.0])
    assert np.all(advantages([flat, other], scale)[0] == 0.0)


@given(groups, st.floats(-100, 100))
def test_adding_a_constant_to_a_group_changes_nothing(rewards: list[np.ndarray], shift: float) -> None:
    for scale in SCALES:
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


@pytest.mark.parametrize("scale", sorted(SCALES))
def test_fewer_than_two_scored_teach_nothing(scale: str) -> None:
    nan = math.nan
    one, none, other = np.array([nan, 1.0, nan]), np.array([nan, nan]), np.array([0.0, 1.0])
    found = advantages([one, none, other], scale)
    assert [np.all(a == 0) for a in found] == [True, True, False]
    assert np.all(advantages([one], scale)[0] == 0)


FIRST = [1.0, None, 1.0, 1.0, None, None, 0.5, None, 0.25, 1.0, None, 0.0]
SECOND = [0.5, None, 0.0, 1.0, 1.0, None, 0.5, None, None, 0.0, None, 0.0]
"""Two rewards of three groups of four; the second group has one completion with both, and two with neither."""


@pytest.mark.parametrize("scale", sorted(SCALES))
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

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1rl.grpo.advantages import SCALES, advantages

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

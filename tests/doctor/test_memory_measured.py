"""The doctor's estimate against what a learner's process takes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from benchmarks.memory import CASES, estimated, measure
from tests.support.waits import HANG_S

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3 * HANG_S),
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads /proc, which only Linux has"),
]


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.name for case in CASES])
def test_the_estimate_is_within_15_percent(number):
    if CASES[number].stage and importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed: pip install 'r1rl[deepspeed]'")
    assert estimated(CASES[number]) == pytest.approx(measure(number), rel=0.15)

"""The random stream of every completion: a function of its place in the run, whatever the number of processes."""

from __future__ import annotations

import numpy as np


def completion_seeds(seed: int, step: int, round: int, index: int, count: int) -> tuple[int, ...]:
    """Random streams of one group: a pure function of its place in the run, independent of the number of processes."""
    state = np.random.SeedSequence([seed % 2**63, step, round, index]).generate_state(count, np.uint64)
    return tuple(int(s) for s in state)


def uniforms(seed: int, count: int) -> np.ndarray:
    """[count] float64 in (0, 1]: the random stream of one completion (Philox, counter based)."""
    return 1.0 - np.random.Generator(np.random.Philox(seed)).random(count)

"""Which problems a step trains on: a pure function of the seed and the step, so that resuming needs no state."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np

from r1rl.errors import DataError
from r1rl.types import Problem

_EXTRA = 1  # separates the random streams of extra draws from those of the epochs
_EPOCH = 0


class PromptStream:
    """An endless, deterministic mixture of sources.

    Each source is walked in epochs, every problem once per epoch, in a new order each time. The sources are interleaved
    evenly: after any number of draws each is within one or two draws of its share.
    """

    def __init__(
        self, problems_by_source: Mapping[str, Sequence[Problem]], weights: Mapping[str, float], seed: int
    ) -> None:
        """``weights`` are positive and relative, one per source. Raises DataError for an empty source, and without
        sources."""
        if not problems_by_source:
            raise DataError("there is no training data; add a source under data.train")
        for name, problems in problems_by_source.items():
            if not problems:
                raise DataError(f"data source {name} has no problems; remove or correct it")
            if not weights[name] > 0:
                raise DataError(f"data source {name} has weight {weights[name]}; weights must be positive")
        self.names = list(problems_by_source)
        self.pools = [list(problems_by_source[name]) for name in self.names]
        share = np.array([float(weights[name]) for name in self.names])
        self.shares = share / share.sum()
        self.seed = seed % 2**63  # numpy rejects negative seeds
        self._order = lru_cache(maxsize=4 * len(self.names))(self._shuffled)

    def batch(self, step: int, n: int) -> list[Problem]:
        """The ``n`` problems of a step (from 0); identical for the same seed, step and n, in any process."""
        source_N, ordinal_N = interleave(self.shares, step * n, n)
        return [self._draw(int(k), int(j)) for k, j in zip(source_N, ordinal_N, strict=True)]

    def extra(self, step: int, round: int, n: int, drawn: Iterable[Problem]) -> list[Problem]:
        """``n`` further problems for dynamic sampling, also deterministic.

        ``drawn`` is what the step has drawn so far (its batch and earlier rounds); none of these is repeated while its
        source, or failing that any other, has problems left. The source of each is drawn at random by weight.
        """
        taken = {problem.id for problem in drawn}
        rng = self._rng(_EXTRA, step, round)
        queues = [self._fresh(k, taken, rng) for k in range(len(self.pools))]
        extra = []
        for k in rng.choice(len(self.pools), size=n, p=self.shares):
            queue = queues[k] or max(queues, key=len)
            if not queue:
                queues = [self._fresh(j, set(), rng) for j in range(len(self.pools))]
                queue = queues[k]
            extra.append(queue.pop())
        return extra

    def _draw(self, source: int, ordinal: int) -> Problem:
        epoch, position = divmod(ordinal, len(self.pools[source]))
        problem: Problem = self.pools[source][self._order(source, epoch)[position]]
        return problem

    def _shuffled(self, source: int, epoch: int) -> np.ndarray:
        return self._rng(_EPOCH, zlib.crc32(self.names[source].encode()), epoch).permutation(len(self.pools[source]))

    def _fresh(self, source: int, taken: set[str], rng: np.random.Generator) -> list[Problem]:
        pool = self.pools[source]
        return [pool[i] for i in rng.permutation(len(pool)) if pool[i].id not in taken]

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *key])


def interleave(shares_K: np.ndarray, start: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws ``start`` to ``start + n`` from K sources mixed by their shares: the source and the ordinal of each, both
    [n] int64.

    Source k's j-th draw falls due at time (j + ½) / share, and draws are taken in order of time, the earlier source
    first in a tie (Webster's method of apportionment): after any number of draws source k is off its share by at most ½
    + K·share/2. Any window is computed without the draws before it.
    """
    count = len(shares_K)
    # by time t, t ± K/2 draws are due
    begin, end = start - count, start + n + count
    first_K = np.maximum(0, np.floor(begin * shares_K - 0.5).astype(np.int64) - 1)
    last_K = np.ceil(end * shares_K + 0.5).astype(np.int64) + 1
    source_M = np.repeat(np.arange(count), last_K - first_K)
    ordinal_M = np.concatenate([np.arange(a, b) for a, b in zip(first_K, last_K, strict=True)])
    due_M = (ordinal_M + 0.5) / shares_K[source_M]
    order = np.lexsort((source_M, due_M))[start - first_K.sum() :][:n]
    return source_M[order], ordinal_M[order]

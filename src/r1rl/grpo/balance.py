"""Sharing the samples of an update among ranks so that none waits for another."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def partition(lengths: Sequence[int], ranks: int) -> list[list[int]]:
    """Largest differencing method (Karmarkar & Karp, 1982): indices by rank, token sums as equal as it finds.

    Ties break by index, so every rank computes the same answer.
    """
    if ranks == 1:
        return [list(range(len(lengths)))]
    # A partial solution is a list of (tokens, indices) per rank, largest first; the two with the widest gap merge.
    heap: list[tuple[int, int, list[tuple[int, list[int]]]]] = []
    for order, i in enumerate(range(len(lengths))):
        parts: list[tuple[int, list[int]]] = [(lengths[i], [i])] + [(0, []) for _ in range(ranks - 1)]
        heap.append((-lengths[i], order, parts))
    heapq.heapify(heap)
    order = len(lengths)
    while len(heap) > 1:
        _, _, a = heapq.heappop(heap)
        _, _, b = heapq.heappop(heap)
        merged = [(x[0] + y[0], x[1] + y[1]) for x, y in zip(a, reversed(b), strict=True)]
        merged.sort(key=lambda part: (-part[0], part[1][:1]))
        heapq.heappush(heap, (merged[-1][0] - merged[0][0], order, merged))
        order += 1
    return [sorted(indices) for _, indices in heap[0][2]] if heap else [[] for _ in range(ranks)]


def imbalance(lengths: Sequence[int], ranks: Sequence[Sequence[int]]) -> float:
    """Tokens of the fullest rank over the mean; 1 is perfect."""
    tokens = [sum(lengths[i] for i in part) for part in ranks]
    return max(tokens) * len(tokens) / sum(tokens) if sum(tokens) else 1.0

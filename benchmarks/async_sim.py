"""Simulate synchronous and asynchronous steps for any number of servers, from measured times:

    python -m benchmarks.async_sim RUN/STAGE/metrics.jsonl [--servers 1 8 64] [--staleness 0 1 2 4] [--slots 16]

The run's metrics give the time of an update, a sync and a rollout. The time to sample a group is drawn from a
log-normal distribution in which the longest group (99th percentile) takes as long as the measured rollout, --spread
times the mean. Simulated are servers whose free slots take the next waiting group, steps that begin when all their
groups are finished, one learner, and at most N steps requested ahead, as ``AheadExperience`` does.
"""

from __future__ import annotations

import argparse
import heapq
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def simulate(sample_SG: np.ndarray, update_s: float, sync_s: float, slots: int, staleness: int) -> tuple[float, float]:
    """Seconds per step, and the fraction of the time in which the learner works.

    Args:
        sample_SG: seconds that each of G groups takes in each of S steps, alone in its slot.
        slots: groups sampled concurrently by all servers together.
        staleness: number of steps requested ahead.
    """
    steps, groups = sample_SG.shape
    free = [0.0] * slots
    heapq.heapify(free)
    asked, done = 0, np.zeros(steps)
    now = 0.0
    for step in range(steps):
        while asked < steps and asked <= step + staleness:
            ends = []
            for g in range(groups):
                begin = max(heapq.heappop(free), now)
                ends.append(begin + sample_SG[asked, g])
                heapq.heappush(free, ends[-1])
            done[asked] = max(ends)
            asked += 1
        now = max(now, done[step]) + update_s + sync_s
    return now / steps, steps * update_s / now


def group_seconds(mean_s: float, longest: float, shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """Log-normal times with this mean, whose 99th percentile is ``longest`` times the mean."""
    # ln(p99 / mean) = 2.33 σ − σ²/2
    sigma = 2.33 - np.sqrt(max(2.33**2 - 2 * np.log(longest), 0))
    return np.random.default_rng(seed).lognormal(np.log(mean_s) - sigma**2 / 2, sigma, tuple(shape))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("metrics", type=Path)
    parser.add_argument("--servers", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--staleness", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--slots", type=int, default=16, help="groups that one server samples concurrently")
    parser.add_argument(
        "--groups", type=int, help="groups per step; default: 16 per server, so that the work grows with them"
    )
    parser.add_argument("--spread", type=float, default=3.0)
    parser.add_argument("--steps", type=int, default=400)
    given = parser.parse_args()
    rows = [json.loads(line) for line in given.metrics.read_text().splitlines()][1:]
    mean = {key: float(np.mean([r[f"time/{key}"] for r in rows])) for key in ("rollout", "update", "sync")}
    print(f"measured: rollout {mean['rollout']:.2f} s, update {mean['update']:.2f} s, sync {mean['sync']:.3f} s")
    print(f"{'servers':>7} {'staleness':>9} {'s/step':>9} {'gain':>7} {'learner busy':>13}")
    for servers in given.servers:
        groups = given.groups or 16 * servers
        slots = given.slots * servers
        # A measured rollout lasts as long as its slowest group.
        times = group_seconds(mean["rollout"] / given.spread, given.spread, (given.steps, groups))
        update = mean["update"]  # assumes a learner that scales with the servers; with --groups the batch is fixed
        base = simulate(times, update, mean["sync"], slots, 0)[0]
        for staleness in given.staleness:
            seconds, busy = simulate(times, update, mean["sync"], slots, staleness)
            print(f"{servers:>7} {staleness:>9} {seconds:>9.2f} {base / seconds:>6.2f}× {busy:>12.0%}")


if __name__ == "__main__":
    main()

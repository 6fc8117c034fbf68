"""Weights that reach all servers in one collective (NCCL): who takes part, who waits, and what a failure costs.

The servers really load and sample; the collective is a stand-in that fails on order.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from r1rl.config import ModelConfig
from r1rl.config.rollout import VLLMConfig
from r1rl.errors import EngineError
from r1rl.model.load import Policy, load_policy
from r1rl.rollout.engine import Request, complete
from r1rl.rollout.vllm.carriers import SharedMemoryCarrier, WeightClient
from r1rl.rollout.vllm.client import Client
from r1rl.rollout.vllm.fleet import Server, State
from r1rl.rollout.vllm.pool import Pool
from r1rl.rollout.vllm.sync_check import SyncCheck
from r1rl.rollout.vllm.weights import PolicyWeights
from r1rl.types import Problem, SamplingParams
from tests.support.stand_in import StandIn
from tests.support.waits import HANG_S, until

CPU = torch.device("cpu")


class Collective(SharedMemoryCarrier):
    """One delivery to all servers at once, which cannot be repeated for one of them."""

    replays = False

    def __init__(self, policy: Policy, leads: bool) -> None:
        super().__init__(PolicyWeights(policy, torch.float32), 1 << 20, writes=leads)
        self.members: list[list[WeightClient]] = []
        self.failures = 0
        """Deliveries still to fail."""

    def deliver(self, clients: Sequence[WeightClient], version: int) -> None:
        self.members.append(list(clients))
        if clients and self.failures:
            self.failures -= 1
            raise RuntimeError("NCCL error: unhandled system error")
        for client in clients:
            super().replay(client, version)

    def replay(self, client: WeightClient, version: int) -> None:
        raise EngineError("at the next sync only")


class Ranks:
    """The first rank's values for the second."""

    def __init__(self) -> None:
        self.values: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def lead(self, value: bool) -> bool:
        self.values.put(value)
        return value

    def follow(self, value: bool) -> bool:
        del value
        return self.values.get(timeout=HANG_S)


def alone(value: bool) -> bool:
    return value


@pytest.fixture
def servers(tiny_folder: Path) -> Iterator[list[StandIn]]:
    both = [StandIn(load_policy(ModelConfig(path=str(tiny_folder)), CPU)) for _ in range(2)]
    yield both
    for server in both:
        server.close()


Start = Callable[..., Pool]


@pytest.fixture
def start(tiny_folder: Path, servers: list[StandIn]) -> Iterator[Start]:
    pools: list[Pool] = []

    def begin(rank: int = 0, share: Callable[[bool], bool] = alone, **dials: Any) -> Pool:
        policy = load_policy(ModelConfig(path=str(tiny_folder)), CPU)
        cfg = VLLMConfig(mode="server", **({"probe_every_s": 0.2, "probe_timeout_s": 2.0} | dials))
        mine = [Server(s.url, Client(s.url, None, request_s=HANG_S, sync_s=HANG_S), None, cfg) for s in servers]
        pools.append(
            Pool(
                mine,
                policy,
                cfg,
                Collective(policy, rank == 0),
                SyncCheck(policy, None),
                slots=2,
                rank=rank,
                leads=rank == 0,
                share=share,
                deadline_s=HANG_S,
            )
        )
        return pools[-1]

    yield begin
    for pool in pools:
        pool.close()


def collective(pool: Pool) -> Collective:
    assert isinstance(pool.weights.carrier, Collective)
    return pool.weights.carrier


def hidden(servers: list[StandIn], monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """The second server is not up until the event is set."""
    up, healthy = threading.Event(), Client.healthy
    monkeypatch.setattr(
        Client, "healthy", lambda client: healthy(client) and (client.url != servers[1].url or up.is_set())
    )
    return up


def test_the_first_sync_waits_for_all_servers(
    start: Start, servers: list[StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    up = hidden(servers, monkeypatch)
    pool = start()
    threading.Timer(1.0, up.set).start()
    pool.sync(1)
    assert [len(members) for members in collective(pool).members] == [2]
    assert [server.version for server in pool.servers] == [1, 1]


def test_a_server_that_never_comes_is_left_out_after_its_time(
    start: Start, servers: list[StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden(servers, monkeypatch)
    pool = start(start_timeout_s=1.5)
    pool.sync(1)
    assert [len(members) for members in collective(pool).members] == [1]
    assert [server.version for server in pool.servers] == [1, None]


def test_a_server_that_went_away_is_not_waited_for_and_joins_as_a_new_member(
    start: Start, servers: list[StandIn]
) -> None:
    pool = start()
    pool.sync(1)
    servers[1].relabel = "999"
    pool.sync(2)
    assert [server.version for server in pool.servers] == [2, None]
    servers[1].relabel = None
    until(lambda: pool.servers[1].state is State.JOINING, "the second server")
    assert complete(pool, [Request(Problem("", (5, 6), ""), (1, 2))], SamplingParams(4)), "one server serves meanwhile"
    pool.sync(3)
    assert [server.version for server in pool.servers] == [3, 3]
    first, second, third = collective(pool).members
    assert first == second
    assert third[0] is first[0]
    assert third[1] is not first[1], "a group with the process before would wait for it for ever"


def test_one_that_cannot_be_paused_is_left_out_alone(
    start: Start, servers: list[StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = start()
    pool.sync(1)
    monkeypatch.setattr(pool.servers[1].client, "pause", unreachable)
    pool.sync(2)
    assert [len(members) for members in collective(pool).members] == [2, 1]
    assert pool.servers[0].version == 2


def unreachable(recompute: bool) -> None:
    raise EngineError("gone")


def test_a_broadcast_that_failed_for_all_is_repeated_once_they_are_back(start: Start, servers: list[StandIn]) -> None:
    pool = start()
    pool.sync(1)
    collective(pool).failures = 2
    pool.sync(2)
    assert len(collective(pool).members) == 4
    assert [server.version for server in pool.servers] == [2, 2]
    assert pool.metrics()["rollout/server_failures"] == 4


def test_a_broadcast_that_always_fails_ends_the_run_and_says_why(start: Start, servers: list[StandIn]) -> None:
    pool = start(start_timeout_s=2.0)
    collective(pool).failures = 99
    begin = time.monotonic()
    with pytest.raises(EngineError, match="unhandled system error"):
        pool.sync(1)
    assert time.monotonic() - begin < HANG_S
    assert len(collective(pool).members) == 3


def test_the_other_ranks_take_part_in_every_attempt(start: Start, servers: list[StandIn]) -> None:
    ranks = Ranks()
    leader, follower = start(0, ranks.lead), start(1, ranks.follow)
    collective(leader).failures = 1
    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(pool.sync, 1) for pool in (leader, follower)]:
            done.result(HANG_S)
    assert [len(members) for members in collective(leader).members] == [2, 2]
    assert [len(members) for members in collective(follower).members] == [0, 0]
    assert all(server.version == 1 for pool in (leader, follower) for server in pool.servers if pool is leader)
    requests = [Request(Problem("", (5, 6 + i), ""), (i, i + 9)) for i in range(3)]
    assert {c.version for g in complete(follower, requests, SamplingParams(4)) for c in g} == {1}

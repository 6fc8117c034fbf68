"""The pool's rules against small servers that really load and sample, and fail on order; vLLM itself is not needed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch

from r1rl.config import ModelConfig, RunConfig
from r1rl.errors import EngineError
from r1rl.model.load import Policy, load_policy
from r1rl.rollout.engine import Request, complete
from r1rl.rollout.seeds import completion_seeds
from r1rl.rollout.torch_engine import TorchEngine
from r1rl.rollout.vllm.build import build
from r1rl.rollout.vllm.client import Client, ServerError
from r1rl.rollout.vllm.fleet import State
from r1rl.rollout.vllm.pool import Pool
from r1rl.types import Completion, Problem, SamplingParams
from tests.support.stand_in import StandIn
from tests.support.waits import HANG_S

PARAMS = SamplingParams(max_new_tokens=12)
REQUESTS = [Request(Problem(str(i), (5, 6, 7 + i), ""), completion_seeds(0, 0, 0, i, 2)) for i in range(6)]
CPU = torch.device("cpu")

Start = Callable[..., tuple[Pool, list[StandIn], Policy]]


@pytest.fixture
def start(tiny_folder: Path, tmp_path: Path) -> Iterator[Start]:
    """``start(servers, **dials)``: that many servers behind a pool of which none is ours to restart."""
    ends: list[Callable[[], None]] = []

    def begin(servers: int = 2, deadline_s: float = 30.0, **dials: object) -> tuple[Pool, list[StandIn], Policy]:
        stand_ins = [StandIn(load_policy(ModelConfig(path=str(tiny_folder)), CPU)) for _ in range(servers)]
        vllm = {"mode": "server", "urls": [s.url for s in stand_ins], "probe_every_s": 0.2, "probe_timeout_s": 2}
        cfg = RunConfig.model_validate(
            {
                "output_dir": str(tmp_path),
                "model": {"path": str(tiny_folder)},
                "rollout": {"engine": "vllm", "max_concurrent": 8, "group_size": 2, "vllm": vllm | dials},
                "grpo": {"deadline_s": deadline_s},
            }
        )
        policy = load_policy(cfg.model, CPU)
        pool = build(cfg, policy)
        assert isinstance(pool, Pool)
        ends.extend([pool.close, *(s.close for s in stand_ins)])
        return pool, stand_ins, policy

    yield begin
    for end in ends:
        end()


def tokens(groups: list[list[Completion]]) -> list[list[list[int]]]:
    return [[c.token_ids.tolist() for c in group] for group in groups]


def change(policy: Policy) -> None:
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)


def until(ready: Callable[[], bool], seconds: float = HANG_S) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def test_servers_sample_from_the_learners_weights(start: Start) -> None:
    pool, servers, policy = start()
    for version in (1, 2):
        change(policy)
        pool.sync(version)
        until(lambda v=version: all(m.state is State.READY and m.version == v for m in pool.servers))
        groups = complete(pool, REQUESTS, PARAMS)
        assert {c.version for g in groups for c in g} == {version}
        assert pool.metrics()["rollout/sync_gap"] < 1e-5
    assert all(s.loads for s in servers)
    requests = [Request(r.problem, tuple((r.seeds[0] & (2**62 - 1)) + i for i in range(2))) for r in REQUESTS]
    assert tokens(groups) == tokens(complete(TorchEngine(policy, 64), requests, PARAMS)), "the tokens of these weights"


def test_a_server_that_names_a_wrong_version_after_a_sync_is_mended(start: Start) -> None:
    pool, servers, policy = start()
    pool.sync(1)
    servers[0].relabel = "999"
    change(policy)
    pool.sync(2)
    assert [m.version for m in pool.servers] == [None, 2]
    assert pool.metrics()["rollout/server_failures"] == 1
    assert "serves weight version 999, the learner is at 2" in pool.servers[0].problem
    assert {c.version for g in complete(pool, REQUESTS, PARAMS) for c in g} == {2}, "the other one serves meanwhile"
    servers[0].relabel = None
    until(lambda: pool.metrics()["rollout/servers"] == 2)
    assert pool.servers[0].version == 2
    assert servers[0].version == "2"


def test_a_given_server_may_come_back_any_number_of_times(start: Start) -> None:
    pool, servers, _ = start(max_restarts=1)
    for version in (1, 3, 5):
        pool.sync(version)
        servers[0].relabel = "999"
        pool.sync(version + 1)
        assert pool.servers[0].version is None
        servers[0].relabel = None
        until(lambda: pool.metrics()["rollout/servers"] == 2 and pool.servers[0].attempts == 0)
    assert pool.metrics()["rollout/server_failures"] == 3
    assert pool.metrics()["rollout/server_restarts"] == 0, "none is ours to restart"


def test_if_all_servers_name_a_wrong_version_the_run_ends_and_says_so(start: Start) -> None:
    pool, servers, _ = start(max_restarts=1)
    pool.sync(1)
    for server in servers:
        server.relabel = "999"
    with pytest.raises(EngineError, match="no vLLM server is left") as caught:
        pool.sync(2)
    for server in servers:
        assert f"vLLM at {server.url} is gone: vLLM at {server.url} serves weight version 999" in str(caught.value)


@pytest.mark.parametrize("dials", [{"deadline_s": 3.0}, {"max_restarts": 1, "start_timeout_s": 1.0}], ids=str)
@pytest.mark.parametrize("moment", ["sampling", "sync"])
def test_a_pool_of_dead_servers_ends_in_an_error_that_names_them(start: Start, dials: dict, moment: str) -> None:
    pool, servers, _ = start(**({"start_timeout_s": 3.0} | dials))
    pool.sync(1)
    for server in servers:
        server.close()
    begin = time.monotonic()
    calls = {"sync": lambda: pool.sync(2), "sampling": lambda: complete(pool, REQUESTS, PARAMS)}
    with pytest.raises(EngineError) as caught:
        calls[moment]()
    assert time.monotonic() - begin < HANG_S / 2  # the default of grpo.deadline_s would be 1,800
    assert all(server.url in str(caught.value) for server in servers)
    assert "ConnectError" in str(caught.value) or "it did not start within" in str(caught.value)


def test_an_answer_nobody_waits_for_any_more_is_aborted_on_its_server(start: Start) -> None:
    pool, servers, _ = start(servers=1)
    pool.sync(1)
    servers[0].slow = {8, 10}

    finished = pool.stream(REQUESTS, PARAMS)
    assert {index for index, _ in islice(finished, 4)} == {0, 2, 4, 5}
    finished.close()
    assert len(servers[0].aborted) == 2
    servers[0].slow = set()
    assert len(complete(pool, REQUESTS, PARAMS)) == 6, "the server is fit for the next job"
    metrics = pool.metrics()
    assert (metrics["rollout/server_failures"], metrics["rollout/resubmitted"]) == (0, 0)


def test_a_keeper_outlives_a_client_that_is_closed_under_it(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[object] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    pool, _, _ = start(max_restarts=1)
    pool.sync(1)
    closed, other = pool.servers
    closed.client.close()  # as a restart on another port does, and the end of the pool
    closed.look.set()
    until(lambda: pool.metrics()["rollout/server_failures"] >= 1)
    assert "its client was closed" in closed.problem
    assert {c.version for g in complete(pool, REQUESTS, PARAMS) for c in g} == {1}, "the other one serves meanwhile"
    assert other.state is State.READY
    pool.close()
    assert not raised


def test_calls_of_a_closed_client_are_server_errors() -> None:
    client = Client("http://127.0.0.1:9", None, request_s=1.0, sync_s=1.0)
    client.close()
    assert not client.healthy()
    for call in (client.version, client.resume, lambda: client.abort(["a"], 1.0), lambda: client.score([[1, 2]], 1.0)):
        with pytest.raises(ServerError, match="its client was closed"):
            call()


@pytest.mark.parametrize("answer", [{}, [], None, {"prompt_logprobs": [None]}, {"weight_version": {}}])
def test_what_a_server_sends_that_cannot_be_read_is_its_error(answer: object, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client("http://127.0.0.1:9", None, request_s=1.0, sync_s=1.0)
    monkeypatch.setattr(client, "_call", lambda *_: answer)
    for call in (client.workers, lambda: client.score([[1, 2]], 1.0), lambda: client.generate([1], {}, "", "")):
        with pytest.raises(ServerError, match="cannot be read"):
            call()

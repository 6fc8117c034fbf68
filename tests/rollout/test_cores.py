"""Learner and servers that work at the same time never have more threads than there are cores."""

from __future__ import annotations

import pytest
import torch

from r1rl.config import RunConfig
from r1rl.rollout.cores import learner_threads, server_threads

SERVED = {"mode": "server"}


def run(staleness: int = 1, threads: int | None = None, **vllm: object) -> RunConfig:
    rollout = {"engine": "vllm", "max_staleness": staleness, "vllm": SERVED | vllm}
    return RunConfig(model={"path": "x"}, threads=threads, rollout=rollout)


@pytest.fixture
def eight_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("cfg", "available", "served", "own"),
    [
        (run(), 2, 1, 1),
        (run(), 8, 4, 4),
        (run(servers=2), 8, 2, 4),
        (run(servers=3), 2, 1, 1),
        (run(threads=6), 8, 4, 8),
        (run(staleness=0), 8, None, 8),
        (run(urls=["http://10.0.0.1:8000"]), 8, None, 8),
        (RunConfig(model={"path": "x"}), 8, None, 8),
    ],
)
def test_shares(cfg, available, served, own, eight_threads):
    assert server_threads(cfg, available) == served
    with learner_threads(cfg, torch.device("cpu"), available):
        assert torch.get_num_threads() == own
    assert torch.get_num_threads() == 8


def test_what_is_configured_stays(eight_threads, monkeypatch):
    cfg = RunConfig(
        model={"path": "x"}, rollout={"engine": "vllm", "max_staleness": 1, "vllm": SERVED | {"threads": 6}}
    )
    assert server_threads(cfg, 8) == 6
    with learner_threads(cfg, torch.device("cpu"), 8):
        assert torch.get_num_threads() == 2
    with learner_threads(cfg, torch.device("cuda"), 8):
        assert torch.get_num_threads() == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with learner_threads(cfg, torch.device("cpu"), 8):
        assert torch.get_num_threads() == 8

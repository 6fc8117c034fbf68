"""Learner and servers that work at the same time never have more threads than there are cores."""

from __future__ import annotations

import pytest
import torch

from r1rl.config import RunConfig
from r1rl.distributed.cores import Threads, choose_threads, cores, learner_threads, quota, server_threads

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


@pytest.mark.parametrize(
    ("configured", "environment", "default", "available", "count", "why"),
    [
        (None, {}, 2, 2, 2, "2 cores to use"),
        (None, {}, 64, 2, 2, "2 cores to use"),  # a container's limit, which torch does not see
        (None, {}, 32, 64, 32, "64 cores to use"),  # torch leaves the second threads of each core out
        (None, {}, 64, 1, 1, "1 core to use"),
        (None, {"LOCAL_WORLD_SIZE": "4"}, 16, 16, 4, "16 cores to use, shared by 4 processes"),
        (None, {"LOCAL_WORLD_SIZE": "4"}, 2, 2, 1, "2 cores to use, shared by 4 processes"),
        (None, {"OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": "2"}, 1, 16, 1, "OMP_NUM_THREADS"),
        (6, {"OMP_NUM_THREADS": "1"}, 1, 2, 6, "threads in the configuration"),
    ],
)
def test_threads(configured, environment, default, available, count, why):
    assert choose_threads(configured, environment, default, available) == Threads(count, why)


def group(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_a_containers_limit(tmp_path):
    """As the kernel's documentation of control groups writes these files (cgroup-v2.rst, sched-bwc.rst)."""
    mounted, own = tmp_path / "cgroup", tmp_path / "own"
    assert quota(mounted, own) is None
    own.write_text("0::/user.slice/job\n")
    group(mounted / "user.slice" / "job", cpu__max="max 100000\n")
    assert quota(mounted, own) is None
    group(mounted / "user.slice", cpu__max="250000 100000\n")
    assert quota(mounted, own) == 2.5
    group(mounted, cpu__max="150000 100000\n")  # inside a container its own group is the root
    assert quota(mounted, own) == 1.5
    group(mounted, cpu__max="broken\n")
    assert quota(mounted, own) == 2.5


def test_a_containers_limit_of_the_first_version(tmp_path):
    mounted, own = tmp_path / "cgroup", tmp_path / "own"
    own.write_text("5:memory:/docker/a\n4:cpu,cpuacct:/docker/a\n")
    group(mounted / "cpu", cpu__cfs_quota_us="-1\n", cpu__cfs_period_us="100000\n")
    assert quota(mounted, own) is None
    group(mounted / "cpu" / "docker" / "a", cpu__cfs_quota_us="400000\n", cpu__cfs_period_us="100000\n")
    assert quota(mounted, own) == 4


def test_cores_are_at_least_one(monkeypatch):
    monkeypatch.setattr("r1rl.distributed.cores.quota", lambda *_: 0.5)
    assert cores() == 1

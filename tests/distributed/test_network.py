"""Two hosts, each in a network namespace of its own: a run over the wire between them, and what a cut does to it."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator

import pytest

from tests.support.namespaces import begin, cannot, end, ip, network, wait
from tests.support.small_grpo import steps
from tests.support.waits import HANG_S

pytestmark = [
    pytest.mark.slow,
    pytest.mark.integration,
    pytest.mark.timeout(3 * HANG_S),
    pytest.mark.skipif(bool(cannot()), reason=cannot() or "-"),
]


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    with network(2) as names:
        yield names


def test_a_run_over_two_hosts(hosts, tmp_path):
    processes = begin(hosts, tmp_path, "ddp", "grpo.steps=3", f"grpo.deadline_s={HANG_S:g}")
    said = end(processes, HANG_S)
    assert [process.returncode for process in processes] == [0, 0], said
    assert steps(tmp_path) == [1, 2, 3]


STEPS, DEADLINE_S = 30, 30.0


needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed: pip install 'r1rl[deepspeed]'"
)


@pytest.mark.parametrize("launch", ["ddp", pytest.param("multinode", marks=needs_deepspeed)])
@pytest.mark.parametrize("cut", ["down", "silent"])
def test_a_cut_link_ends_both_hosts_and_the_run_goes_on_when_it_is_back(launch, cut, hosts, tmp_path):
    settings = (launch, f"grpo.steps={STEPS}", f"grpo.deadline_s={DEADLINE_S:g}")
    processes = begin(hosts, tmp_path, *settings)
    wait(tmp_path, processes, 2)
    if cut == "down":
        ip("-n", hosts[0], "link", "set", "wire", "down")
    else:  # packets leave and go nowhere
        neighbour = ("neigh", "replace", "10.77.0.2", "dev", "wire", "lladdr", "02:00:00:00:00:01", "nud", "permanent")
        ip("-n", hosts[0], *neighbour)
    said = end(processes, HANG_S)
    assert all(process.returncode for process in processes), said
    for rank, text in enumerate(said):
        assert f"r1rl: error: rank {rank} of 2 lost the others in step" in text, text
        assert "Start the same command again" in text
    before = steps(tmp_path)
    assert before == list(range(1, len(before) + 1))
    assert len(before) < STEPS, "the run was over before the cut"
    lines = (tmp_path / "tiny-zero" / "zero" / "metrics.jsonl").read_text().splitlines()

    if cut == "down":
        ip("-n", hosts[0], "link", "set", "wire", "up")
    else:
        ip("-n", hosts[0], "neigh", "del", "10.77.0.2", "dev", "wire")
    processes = begin(hosts, tmp_path, *settings)
    said = end(processes, HANG_S)
    assert [process.returncode for process in processes] == [0, 0], said
    assert steps(tmp_path) == list(range(1, STEPS + 1))
    kept = (tmp_path / "tiny-zero" / "zero" / "metrics.jsonl").read_text().splitlines()
    assert kept[: len(before) - 1] == lines[:-1], "steps before the last checkpoint were run again"


def test_a_link_cut_before_the_first_step_ends_both_hosts(hosts, tmp_path):
    processes = begin(hosts, tmp_path, "ddp", "grpo.steps=3", f"grpo.deadline_s={DEADLINE_S:g}")
    until = time.monotonic() + HANG_S
    while not (tmp_path / "tiny-zero" / "config.yaml").exists() and time.monotonic() < until:
        time.sleep(0.02)
    ip("-n", hosts[0], "link", "set", "wire", "down")
    said = end(processes, HANG_S)
    assert all(process.returncode for process in processes), said
    for rank, text in enumerate(said):
        assert f"r1rl: error: rank {rank} of 2 lost the others outside the training steps" in text, text

"""Two hosts, each in a network namespace of its own: a run over the wire between them, and what a cut does to it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_kill import ROOT, SETTINGS, steps


def _cannot() -> str:
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "network namespaces need root on Linux"
    if shutil.which("ip") is None:
        return "ip is not installed: apt install iproute2"
    probe = subprocess.run(["ip", "netns", "add", "r1rl-probe"], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", "r1rl-probe"], capture_output=True)
    return "" if probe.returncode == 0 else f"no network namespace can be made here: {probe.stderr.strip()}"


pytestmark = [
    pytest.mark.slow,
    pytest.mark.integration,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(_cannot()), reason=_cannot() or "-"),
]


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Two namespaces with one wire between them: 10.77.0.1 and 10.77.0.2."""
    names = [f"r1rl-{os.getpid()}-{i}" for i in (0, 1)]
    wires = [f"r1w{os.getpid() % 100000}{i}" for i in "ab"]
    for name in names:
        ip("netns", "add", name)
    try:
        ip("link", "add", wires[0], "type", "veth", "peer", "name", wires[1])
        for i, (name, wire) in enumerate(zip(names, wires, strict=True)):
            ip("link", "set", wire, "netns", name, "name", "wire")
            ip("-n", name, "addr", "add", f"10.77.0.{i + 1}/24", "dev", "wire")
            ip("-n", name, "link", "set", "wire", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            ip("netns", "del", name)


def begin(hosts: list[str], folder: Path, launch: str, *overrides: str) -> list[subprocess.Popen[str]]:
    """The command of every host."""
    config = ROOT / "configs" / "tiny" / "zero.yaml"
    started = []
    for rank, host in enumerate(hosts):
        command = ["ip", "netns", "exec", host, sys.executable, "-m", "accelerate.commands.launch"]
        command += ["--config_file", str(ROOT / "launch" / "accelerate" / f"{launch}.yaml"), "--rdzv_backend", "static"]
        command += ["--num_machines", "2", "--num_processes", "2", "--machine_rank", str(rank)]
        command += ["--main_process_ip", "10.77.0.1", "--main_process_port", "29577"]
        command += ["-m", "r1rl.grpo", "--config", str(config), *SETTINGS, f"output_dir={folder}", *overrides]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "wire", "TP_SOCKET_IFNAME": "wire"}
        started.append(
            subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        )
    return started


def end(processes: list[subprocess.Popen[str]], within: float) -> list[str]:
    """What each said; all have ended ``within`` seconds."""
    deadline = time.monotonic() + within
    try:
        return [process.communicate(timeout=max(deadline - time.monotonic(), 1))[0] for process in processes]
    finally:
        for process in processes:
            process.kill()


def test_a_run_over_two_hosts(hosts, tmp_path):
    processes = begin(hosts, tmp_path, "ddp", "grpo.steps=3", "grpo.deadline_s=120")
    said = end(processes, 240)
    assert [process.returncode for process in processes] == [0, 0], said
    assert steps(tmp_path) == [1, 2, 3]


STEPS, DEADLINE_S, LEAVE_S = 30, 15.0, 25.0
"""The last: from the error to the end of the launcher, on a busy machine."""


def wait(folder: Path, processes: list[subprocess.Popen[str]], count: int) -> None:
    """Until so many steps are logged."""
    until = time.monotonic() + 150
    while len(steps(folder)) < count:
        assert all(process.poll() is None for process in processes), end(processes, 30)
        assert time.monotonic() < until, f"{steps(folder)} after 150 s"
        time.sleep(0.02)


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
    said = end(processes, DEADLINE_S + LEAVE_S)
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
    said = end(processes, 240)
    assert [process.returncode for process in processes] == [0, 0], said
    assert steps(tmp_path) == list(range(1, STEPS + 1))
    kept = (tmp_path / "tiny-zero" / "zero" / "metrics.jsonl").read_text().splitlines()
    assert kept[: len(before) - 1] == lines[:-1], "steps before the last checkpoint were run again"


def test_a_link_cut_before_the_first_step_ends_both_hosts(hosts, tmp_path):
    processes = begin(hosts, tmp_path, "ddp", "grpo.steps=3", f"grpo.deadline_s={DEADLINE_S:g}")
    until = time.monotonic() + 120
    while not (tmp_path / "tiny-zero" / "config.yaml").exists() and time.monotonic() < until:
        time.sleep(0.02)
    ip("-n", hosts[0], "link", "set", "wire", "down")
    said = end(processes, 2 * DEADLINE_S + LEAVE_S)
    assert all(process.returncode for process in processes), said
    for rank, text in enumerate(said):
        assert f"r1rl: error: rank {rank} of 2 lost the others outside the training steps" in text, text

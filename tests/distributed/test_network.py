"""Two hosts, each in a network namespace of its own: a run over the wire between them."""

from __future__ import annotations

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


def begin(hosts: list[str], folder: Path, *overrides: str) -> list[subprocess.Popen[str]]:
    """The command of every host."""
    config = ROOT / "configs" / "tiny" / "zero.yaml"
    started = []
    for rank, host in enumerate(hosts):
        command = ["ip", "netns", "exec", host, sys.executable, "-m", "accelerate.commands.launch"]
        command += ["--config_file", str(ROOT / "launch" / "accelerate" / "ddp.yaml"), "--rdzv_backend", "static"]
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
    processes = begin(hosts, tmp_path, "grpo.steps=3", "grpo.deadline_s=120")
    said = end(processes, 240)
    assert [process.returncode for process in processes] == [0, 0], said
    assert steps(tmp_path) == [1, 2, 3]

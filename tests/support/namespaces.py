"""Hosts for tests: network namespaces of their own, joined by a switch, and a run over several of them."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.support.small_grpo import ROOT, SETTINGS, steps
from tests.support.waits import HANG_S


@functools.cache
def cannot() -> str:
    """Why no host can be made here; empty where they can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "network namespaces need root on Linux"
    if shutil.which("ip") is None:
        return "ip is not installed: apt install iproute2"
    probe = subprocess.run(["ip", "netns", "add", "r1rl-probe"], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", "r1rl-probe"], capture_output=True)
    return "" if probe.returncode == 0 else f"no network namespace can be made here: {probe.stderr.strip()}"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def address(host: int) -> str:
    return f"10.77.0.{host + 1}"


@contextmanager
def network(count: int) -> Iterator[list[str]]:
    """Names of so many hosts; each has one wire, called ``wire``, to the same switch."""
    names = [f"r1rl-{os.getpid()}-{i}" for i in range(count)]
    switch = f"r1rl-{os.getpid()}-switch"
    for name in [*names, switch]:
        ip("netns", "add", name)
    try:
        ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        ip("-n", switch, "link", "set", "bridge", "up")
        for i, name in enumerate(names):
            ip("-n", switch, "link", "add", f"port{i}", "type", "veth", "peer", "name", "wire", "netns", name)
            ip("-n", switch, "link", "set", f"port{i}", "master", "bridge", "up")
            ip("-n", name, "addr", "add", f"{address(i)}/24", "dev", "wire")
            ip("-n", name, "link", "set", "wire", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in [*names, switch]:
            ip("netns", "del", name)


def inside(host: str, *command: str, output: int | IO[str] = subprocess.PIPE, **names: str) -> subprocess.Popen[str]:
    """A command on a host, whose connections leave by its wire; ``names`` are added to its environment."""
    around = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "wire", "TP_SOCKET_IFNAME": "wire"}
    return subprocess.Popen(
        ["ip", "netns", "exec", host, *command],
        env=os.environ | around | names,
        text=True,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def begin(hosts: Sequence[str], folder: Path, launch: str, *overrides: str) -> list[subprocess.Popen[str]]:
    """One run, one process on each of the hosts."""
    config = ROOT / "configs" / "tiny" / "zero.yaml"
    started = []
    for rank, host in enumerate(hosts):
        command = ["--config_file", str(ROOT / "launch" / "accelerate" / f"{launch}.yaml"), "--rdzv_backend", "static"]
        command += ["--num_machines", str(len(hosts)), "--num_processes", str(len(hosts)), "--machine_rank", str(rank)]
        command += ["--main_process_ip", address(0), "--main_process_port", "29577"]
        command += ["-m", "r1rl", "run", str(config), "--until", "zero", *SETTINGS, f"output_dir={folder}", *overrides]
        started.append(inside(host, sys.executable, "-m", "accelerate.commands.launch", *command))
    return started


def end(processes: Sequence[subprocess.Popen[str]], within: float) -> list[str]:
    """What each said; all have ended ``within`` seconds."""
    deadline = time.monotonic() + within
    try:
        return [process.communicate(timeout=max(deadline - time.monotonic(), 1))[0] for process in processes]
    finally:
        for process in processes:
            process.kill()


def wait(folder: Path, processes: Sequence[subprocess.Popen[str]], count: int) -> None:
    """Until so many steps are logged."""
    until = time.monotonic() + HANG_S
    while len(steps(folder)) < count:
        assert all(process.poll() is None for process in processes), end(processes, HANG_S)
        assert time.monotonic() < until, f"{steps(folder)} after {HANG_S:g} s"
        time.sleep(0.02)

"""Hostile programs: each is contained with its verdict, nothing is left behind, and the pool still serves."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from r1rl.programs.languages import available
from r1rl.programs.pool import SandboxPool
from r1rl.programs.types import Execution, Program
from tests.support.attacks import CPP, FORBIDDEN_CALLS, PATIENT, PYTHON, Attack
from tests.support.sandboxes import WAYS, isolation, public_folder
from tests.support.waits import until

CANARY = "canary" + "!"
WORKERS = 6
"""More than cores: many of these sleep."""
SHARES = [("bubblewrap", 1), ("user namespaces", 4)]
"""Every how many-th attack; the slow test makes all of them in both ways."""
ROUNDS = 4
"""So that the slow test runs more than 1,000 programs."""


@pytest.fixture(autouse=True)
def canary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A secret in the environment and in a file, and a process that must stay alive."""
    monkeypatch.setenv("R1RL_SECRET", CANARY)
    (tmp_path / CANARY).write_text(CANARY)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield
        alive = process.poll() is None
        process.kill()
    assert alive
    assert (tmp_path / CANARY).read_text() == CANARY


@pytest.fixture
def folder() -> Iterator[Path]:
    with public_folder() as made:
        yield made


def pool(way: str) -> SandboxPool:
    found = isolation(way)
    if isinstance(found, str):
        pytest.skip(f"{way}: {found}")
    return SandboxPool(WORKERS, PATIENT, found)


def contained(attack: Attack, execution: Execution) -> bool:
    """Whether it ended as it should."""
    escaped = "ESCAPED" in execution.stdout or CANARY in execution.stdout + execution.stderr
    refused = execution.failure is not None or "contained" in execution.stdout
    return execution.failure in attack.ends and refused and not escaped


def escapes(runner: SandboxPool, attacks: list[Attack]) -> dict[str, Execution]:
    """The attacks that were not contained."""
    running = [(attack, runner.submit(attack.program, limits=attack.limits)) for attack in attacks]
    ended = [(attack, future.result()) for attack, future in running]
    return {attack.name: execution for attack, execution in ended if not contained(attack, execution)}


def serves(runner: SandboxPool) -> bool:
    return runner.run(Program("print(int(input()) + 1)"), "41").stdout == "42\n"


@pytest.mark.parametrize(("way", "share"), SHARES)
def test_every_attack_is_contained(way: str, share: int) -> None:
    with pool(way) as runner:
        assert escapes(runner, [*PYTHON[::share], *FORBIDDEN_CALLS[:: 5 * share]]) == {}
        assert serves(runner)


@pytest.mark.parametrize(("way", "share"), SHARES)
def test_every_attack_in_cpp_is_contained(way: str, share: int) -> None:
    if "cpp" not in available():
        pytest.skip("g++ is not installed")
    with pool(way) as runner:
        assert escapes(runner, CPP[::share]) == {}
        assert serves(runner)


def test_there_are_enough_of_them() -> None:
    names = [attack.name for attack in [*PYTHON, *FORBIDDEN_CALLS, *CPP]]
    assert len(names) == len(set(names)) >= 240


def traces() -> dict[str, object]:
    """What this process holds: its children, its descriptors, and files beside those of the pool."""
    me = psutil.Process()
    return {
        "processes": len(me.children(recursive=True)),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "files": sorted(os.listdir(tempfile.gettempdir())),
    }


def leaves_nothing(runner: SandboxPool, empty: dict[str, object], attacks: list[Attack]) -> None:
    """Run these, after which only interpreters that wait are there; close the pool, after which nothing is."""
    with runner:
        assert escapes(runner, PYTHON[:WORKERS]) == {}
        files, most = traces()["files"], int(str(empty["processes"])) + 2 * WORKERS
        memory = psutil.Process().memory_info().rss
        assert escapes(runner, attacks) == {}
        until(lambda: len(psutil.Process().children(recursive=True)) <= most, "the processes of attacks to end")
        assert traces()["files"] == files
        assert psutil.Process().memory_info().rss - memory < 64 << 20
        assert serves(runner)
    until(lambda: traces() == empty, f"the pool's own traces to go: {traces()} instead of {empty}")


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_left(way: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    isolation(way)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    empty = traces()
    leaves_nothing(pool(way), empty, PYTHON[::20])


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_left_after_a_thousand(way: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    isolation(way)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    empty = traces()
    attacks = [*PYTHON, *FORBIDDEN_CALLS] * ROUNDS
    assert len(attacks) >= 1000
    leaves_nothing(pool(way), empty, attacks)

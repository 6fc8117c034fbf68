"""DeepSpeed's operators are compiled before any deadline runs, and survive a compiler that was killed."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from r1rl.distributed import operators
from r1rl.errors import ConfigError, TrainingError
from tests.support.waits import HANG_S

OWNER = """
import sys
import time
from pathlib import Path
from r1rl.distributed.operators import locked
with locked(Path(sys.argv[1]), 60):
    print("held", flush=True)
    time.sleep(3600)
"""


def test_what_a_launch_needs():
    offload = {"ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "cpu"}
    assert operators.needed({}, on_cpu=False) == []
    assert operators.needed(offload, on_cpu=False) == ["CPUAdamBuilder"]
    assert operators.needed(offload | {"ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "none"}, on_cpu=False) == []
    on_cpu = ["ShareMemCommBuilder"] if sys.platform == "linux" else []
    assert operators.needed({}, on_cpu=True) == on_cpu


def test_nothing_is_touched_where_nothing_is_needed(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    operators.build([])
    assert not list(tmp_path.iterdir())


def test_the_folder_is_ours_and_is_found_again(tmp_path):
    pytest.importorskip("deepspeed", reason="ZeRO needs DeepSpeed: pip install 'r1rl[deepspeed]'")
    root = operators.own_root({"TORCH_EXTENSIONS_DIR": str(tmp_path)})
    assert root.parent == tmp_path
    assert operators.own_root({"TORCH_EXTENSIONS_DIR": str(root)}) == root  # in a process that one of ours started


def test_a_lock_ends_with_a_killed_owner(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    file = tmp_path / "lock"
    command = [sys.executable, "-c", OWNER, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        with pytest.raises(TrainingError, match="another process"), operators.locked(file, 0.3):
            pass
        owner.send_signal(signal.SIGKILL)
        owner.wait(HANG_S)
    with operators.locked(file, HANG_S):
        pass
    assert caplog.messages == ["waiting for another process that compiles DeepSpeed's operators"]


class Builder:
    """As DeepSpeed's builders look to us. It cannot load what an interrupted compiler left."""

    NAME = "an_operator"

    def __init__(self, root: Path, fails_with: str = "") -> None:
        self.library, self.fails_with, self.compiled = root / self.NAME / f"{self.NAME}.so", fails_with, 0

    def is_compatible(self, verbose: bool) -> bool:
        return True

    def load(self, verbose: bool) -> None:
        if self.fails_with:
            raise RuntimeError(self.fails_with)
        if (self.library.parent / "lock").exists():
            raise AssertionError("torch would wait here forever")
        if not self.library.exists():
            self.compiled += 1
            self.library.parent.mkdir(parents=True, exist_ok=True)
            self.library.write_text("whole")
        if self.library.read_text() != "whole":
            raise ImportError("cannot open shared object file")


@pytest.fixture
def builder(tmp_path, monkeypatch):
    accelerator = pytest.importorskip("deepspeed.accelerator")
    made = Builder(tmp_path)

    class Accelerator:
        def create_op_builder(self, name: str) -> Builder:
            return made

    monkeypatch.setattr(accelerator, "get_accelerator", Accelerator)
    monkeypatch.setattr(operators, "own_root", lambda environment: tmp_path)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    return made


@pytest.mark.parametrize("left", ["nothing", "a lock", "half a library", "both"])
def test_what_a_killed_compiler_left_stops_no_later_start(builder, left, caplog):
    caplog.set_level(logging.INFO)
    folder = builder.library.parent
    folder.mkdir(parents=True)
    if left in ("a lock", "both"):
        (folder / "lock").touch()
    if left in ("half a library", "both"):
        builder.library.write_text("half")
    operators.build(["a"])
    assert builder.library.read_text() == "whole"
    assert builder.compiled == 1
    assert any("compiling" in line for line in caplog.messages)
    operators.build(["a"])
    assert builder.compiled == 1


def test_a_compiler_that_fails_is_named(builder):
    builder.fails_with = "Error building extension 'an_operator'\nfatal error: torch.h: no such file"
    with pytest.raises(ConfigError, match=r"an_operator could not be compiled.*g\+\+"):
        operators.build(["a"])


@pytest.mark.slow
@pytest.mark.timeout(2 * HANG_S)
def test_a_compiler_killed_half_way_and_two_starts_at_once(tmp_path):
    pytest.importorskip("deepspeed", reason="ZeRO needs DeepSpeed: pip install 'r1rl[deepspeed]'")
    environment = {k: v for k, v in os.environ.items() if k != "TORCH_EXTENSIONS_DIR"} | {"HOME": str(tmp_path)}
    command = [sys.executable, "-m", "r1rl.distributed.operators"]
    with subprocess.Popen(command, env=environment, start_new_session=True) as first:
        end = time.monotonic() + HANG_S
        while not list(tmp_path.glob("**/lock")) and time.monotonic() < end:
            time.sleep(0.1)
        time.sleep(2)  # the compiler is at work
        os.killpg(first.pid, signal.SIGKILL)
    assert list(tmp_path.glob("**/deepspeed_shm_comm/lock"))
    assert not list(tmp_path.glob("**/deepspeed_shm_comm/*.so"))
    both = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [process.wait(HANG_S) for process in both] == [0, 0]
    assert not list(tmp_path.glob("**/lock"))

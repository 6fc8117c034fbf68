"""Threads that wait do not spin for long, unless the user wants them to."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from r1rl.cli import main
from r1rl.distributed.openmp import SHORT_WAITS, wait_shortly


def test_what_the_user_chose_stays() -> None:
    untouched: dict[str, str] = {}
    wait_shortly(untouched)
    assert untouched == SHORT_WAITS
    for name in ("OMP_WAIT_POLICY", *SHORT_WAITS):
        chosen = {name: "active"}
        wait_shortly(chosen)
        assert chosen == {name: "active"}


def test_the_command_sets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", *SHORT_WAITS):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    with pytest.raises(SystemExit):
        main(["--version"])
    assert os.environ["GOMP_SPINCOUNT"] == SHORT_WAITS["GOMP_SPINCOUNT"]


def test_torch_is_not_loaded_before() -> None:
    program = "import sys, r1rl.cli, r1rl.grpo.__main__, r1rl.distributed.openmp; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=300).returncode == 0

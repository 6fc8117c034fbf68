"""``-m r1rl.grpo``, the command of old, is ``-m r1rl run`` up to a grpo stage."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from r1rl.grpo import __main__ as alias

CONFIG = Path(__file__).parents[2] / "configs" / "tiny" / "zero.yaml"


@pytest.mark.parametrize(
    ("words", "rewritten"),
    [
        ([], ["--until", "zero"]),
        (["--stage", "zero", "seed=3"], ["seed=3", "--until", "zero"]),
        (["--yes", "seed=3", "name=x"], ["seed=3", "name=x", "--until", "zero", "--yes"]),
    ],
)
def test_it_is_the_command_run(words: list[str], rewritten: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run_module(name: str, run_name: str) -> None:
        assert (name, run_name) == ("r1rl", "__main__")
        ran.append(sys.argv[1:])

    monkeypatch.setattr(sys, "argv", ["grpo", "--config", str(CONFIG), *words])
    monkeypatch.setattr(runpy, "run_module", run_module)
    with pytest.raises(SystemExit) as ended:
        alias.typer.run(alias.main)
    assert ended.value.code == 0
    assert ran == [["run", str(CONFIG), *rewritten]]


def test_a_stage_that_is_not_there_is_an_error_of_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["grpo", "--config", str(CONFIG), "--stage", "base"])
    monkeypatch.delitem(sys.modules, "r1rl.grpo.__main__")  # as in a new process
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("r1rl.grpo", run_name="__main__")
    assert ended.value.code == 2
    assert "has no grpo stage called base; it has ['zero']" in capsys.readouterr().err

"""Importing files and modules that a configuration names, in a process of its own: sys.path is its state."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SRC = Path(__file__).parents[1] / "src"


def run(folder: Path, code: str) -> str:
    """What a script prints that starts, as the console script does, without the current folder on sys.path."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"from r1rl.scoring.load import REWARDS\nload = REWARDS.load\n{code}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(SRC)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)


def test_a_module_of_the_current_folder(tmp_path: Path) -> None:
    write(tmp_path / "project", __init__="", rewards="def f(completions):\n    return [1.0]\n")
    assert run(tmp_path, "print(load('project.rewards:f')(['a']))") == "[1.0]"
    made = "from r1rl.data.sources import load_rows\nfrom r1rl.config.data import DatasetConfig\n"
    write(tmp_path / "project", rows="def make():\n    return [{'question': 'q', 'answer': '1'}]\n")
    assert run(tmp_path, f"{made}print(load_rows(DatasetConfig(path='generated:project.rows:make'))[0])")


def test_a_file_imports_its_neighbours(tmp_path: Path) -> None:
    write(
        tmp_path / "mine", helpers="VALUE = 2.0\n", rewards="from helpers import VALUE\ndef f(c):\n    return [VALUE]\n"
    )
    write(tmp_path / "mine", late="def f(c):\n    import helpers\n    return [helpers.VALUE]\n")
    assert run(tmp_path, "print(load('mine/rewards.py:f')([]), load('mine/late.py:f')([]))") == "[2.0] [2.0]"


def test_a_file_of_a_package_imports_relatively(tmp_path: Path) -> None:
    write(tmp_path / "top", __init__="")
    write(tmp_path / "top" / "sub", __init__="", helpers="VALUE = 3.0\n")
    write(
        tmp_path / "top" / "sub",
        rewards="from .helpers import VALUE\nfrom ..other import ONE\ndef f(c):\n    return [VALUE + ONE]\n",
    )
    write(tmp_path / "top", other="ONE = 1.0\n")
    assert run(tmp_path, "print(load('top/sub/rewards.py:f')([]))") == "[4.0]"


def test_a_file_is_executed_once_and_again_when_it_changed(tmp_path: Path) -> None:
    body = "print('executed')\ncache = []\ndef add(c):\n    cache.append(1)\ndef size(c):\n    return len(cache)\n"
    write(tmp_path, shared=body, user="from shared import cache\ndef g(c):\n    return len(cache)\n")
    code = """
load('shared.py:add')([])
load('./shared.py:add')([])
print(load('shared.py:size')([]), load('user.py:g')([]))
with open('shared.py', 'a') as file:
    file.write('def more(c):\\n    return size(c)\\n')
print(load('shared.py:more')([]))
"""
    assert run(tmp_path, code).split() == ["executed", "2", "2", "executed", "0"]


def test_a_file_named_like_something_else_is_still_that_file(tmp_path: Path) -> None:
    write(tmp_path / "a", json="def f(c):\n    return 'a'\n", rewards="def f(c):\n    return 'a'\n")
    write(tmp_path / "b", rewards="def f(c):\n    return 'b'\n")
    code = "print(load('a/json.py:f')([]), load('a/rewards.py:f')([]), load('b/rewards.py:f')([]))\n"
    code += "import json\nprint(json.dumps(1))"
    assert run(tmp_path, code).split() == ["a", "a", "b", "1"]

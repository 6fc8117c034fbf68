"""A clone as a new user has it, whose demo takes seconds: the pages' commands run in it word for word."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from r1rl.config.merge import deep_merge
from r1rl.config.overrides import read_overrides
from r1rl.config.source import read_yaml
from tests.support.documents import ROOT, blocks
from tests.support.small_demo import SMALL
from tests.support.waits import HANG_S

LINKED = ("Makefile", "README.md", "benchmarks", "docs", "launch", "pyproject.toml", "rewards", "src", "tests")
ROWS = [
    {"prompt": "2+3?", "completion": "<think>2+3=5</think><answer>5</answer>", "answer": "5"},
    {"prompt": "2+3?", "completion": "<think>2+3=6</think><answer>6</answer>", "answer": "5"},
]

CASES = [{"fn_name": "double", "input": [3], "output": 6}]
PROGRAMS = [
    {"prompt": "Write double.", "completion": f"```python\ndef double(x):\n    return {made}\n```", "test_cases": CASES}
    for made in ("2 * x", "x + 2")
]


def build(folder: Path) -> Path:
    """The repository in ``folder``, its demo run by ``make demo``, and what the pages' examples take for granted."""
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(sys.prefix)
    shutil.copytree(ROOT / "configs", folder / "configs")
    demo = folder / "configs/tiny/zero.yaml"
    demo.write_text(yaml.safe_dump(deep_merge(read_yaml(demo)[0], read_overrides(SMALL)[0]), sort_keys=False))
    shell(["make", "demo", "-o", ".venv/.installed"], folder)  # as if installed: pip would ask the network
    _examples(folder)
    return folder


def shell(words: list[str], folder: Path) -> str:
    """What the command prints; it must succeed."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    env["OMP_NUM_THREADS"] = "1"
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _examples(folder: Path) -> None:
    runs = folder / "runs"
    for name in ("zero-seed0", "zero-seed1", "tiny-r1"):
        shutil.copytree(runs / "tiny-zero", runs / name)
    (runs / "tiny-r1/zero").rename(runs / "tiny-r1/r1")
    for name, rows in (("samples.jsonl", ROWS), ("completions.jsonl", ROWS), ("programs.jsonl", PROGRAMS)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = [block.text for block in blocks("python") if block.text.startswith("# my_rewards.py")]
    (folder / "my_rewards.py").write_text("\n".join(shown))

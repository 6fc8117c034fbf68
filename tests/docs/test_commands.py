"""Every command in the pages works: light ones are run, long ones are checked as far as they can be without running.

A command that no rule here knows is a failure: add a rule that proves it.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from documents import PAGES, ROOT, commands
from typer.testing import CliRunner

from r1rl.cli import app
from r1rl.config import load_config

Rule = Callable[[list[str], Path], None]


def config_is_valid(words: list[str], tmp_path: Path) -> None:
    """``CONFIG key=value … --flag``: the file exists and takes the overrides."""
    arguments = [word for word in words if not word.startswith("-")]
    load_config(ROOT / arguments[0], arguments[1:])


def options_exist(words: list[str], tmp_path: Path) -> None:
    """``r1rl SUBCOMMAND …``: the subcommand takes these options."""
    subcommand, *rest = words
    asked = CliRunner().invoke(app, [subcommand, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert asked.exit_code == 0, asked.output
    shown = re.sub(r"\x1b\[[0-9;]*m", "", asked.output)
    missing = [word for word in rest if word.startswith("--") and word.split("=")[0] not in shown]
    assert not missing, f"r1rl {subcommand} has no {missing}"


def r1rl(words: list[str], tmp_path: Path) -> None:
    subcommand = words[1]
    if subcommand == "--version":
        assert CliRunner().invoke(app, ["--version"]).exit_code == 0
        return
    options_exist(words[1:], tmp_path)
    if subcommand in ("run", "check"):
        config_is_valid(words[2:], tmp_path)


def make(words: list[str], tmp_path: Path) -> None:
    done = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def accelerate(words: list[str], tmp_path: Path) -> None:
    """``accelerate launch --config_file FILE … -m MODULE --config CONFIG key=value``, or ``-m r1rl run CONFIG …``."""
    assert words[1] == "launch"
    if "--config_file" in words:
        assert (ROOT / words[words.index("--config_file") + 1]).is_file()
    module_exists(words[words.index("-m") + 1])
    if "--config" in words:
        config_is_valid(words[words.index("--config") + 1 :], tmp_path)
    else:
        r1rl(words[words.index("-m") + 1 :], tmp_path)


def module_exists(name: str) -> None:
    sys.path.insert(0, str(ROOT))
    try:
        assert importlib.util.find_spec(name), f"no module {name}"
    finally:
        sys.path.remove(str(ROOT))


def python(words: list[str], tmp_path: Path) -> None:
    if words[1] == "-m":
        if words[2] not in ("venv", "pip"):
            module_exists(words[2])
    elif words[1] != "-c":
        assert (ROOT / words[1]).is_file(), f"no file {words[1]}"


def pip(words: list[str], tmp_path: Path) -> None:
    """``pip install 'r1rl[extra]'``: the extras exist."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extras in re.findall(r"\[([\w,-]+)\]", " ".join(words)):
        assert set(extras.split(",")) <= set(project["optional-dependencies"])


def pytest_arguments(words: list[str], tmp_path: Path) -> None:
    for word in words[1:]:
        if not word.startswith("-") and "/" in word:
            assert (ROOT / word.split("::")[0]).exists(), f"no {word}"


def nothing(words: list[str], tmp_path: Path) -> None:
    """A command of another program, or of the shell."""


def paths_exist(words: list[str], tmp_path: Path) -> None:
    """A script of the repository."""
    assert (ROOT / words[0]).is_file(), f"no file {words[0]}"


RULES: dict[str, Rule] = {
    "r1rl": r1rl,
    "make": make,
    "accelerate": accelerate,
    "python": python,
    "python3": python,
    "pip": pip,
    "pytest": pytest_arguments,
    **dict.fromkeys(
        [
            "git",
            "cd",
            "source",
            ".",
            "export",
            "wandb",
            "trackio",
            "tensorboard",
            "pre-commit",
            "apt-get",
            "ruff",
            "mypy",
        ],
        nothing,
    ),
}


def prepared(words: list[str]) -> list[str]:
    """The command without what stands before it: variables, sudo, a path to the environment."""
    while words and (re.fullmatch(r"[A-Z_]+=.*", words[0]) or words[0] in ("sudo", "time", "env")):
        words = words[1:]
    return [words[0].removeprefix(".venv/bin/"), *words[1:]] if words else []


@pytest.mark.parametrize(("place", "words"), commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_command(place: str, words: list[str], tmp_path: Path) -> None:
    words = prepared(words)
    if not words:
        return
    rule = RULES.get(words[0]) or (paths_exist if "/" in words[0] else None)
    assert rule is not None, f"{place}: no rule for {words[0]!r} in tests/docs/test_commands.py"
    rule(words, tmp_path)


@pytest.mark.parametrize("name", typer.main.get_command(app).commands)  # type: ignore[attr-defined]
def test_a_subcommand_explains_itself(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"])
    assert shown.exit_code == 0, shown.output


def test_every_target_that_a_page_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"`make ([\w-]+)`", page.read_text(encoding="utf-8"))}
    assert named <= targets

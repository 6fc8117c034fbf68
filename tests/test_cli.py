"""The command line as a person uses it: real processes for speed and imports, in-process for the rest."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from r1rl.cli import main
from r1rl.config import RunConfig
from r1rl.errors import TrainingError

CONFIG = """
model: gpt2
data: {train: {gsm8k: {path: gsm8k}}}
rewards: {accuracy: 1.0}
stages:
  base: {kind: pretrain}
  zero: {kind: grpo, model: base, grpo: {minibatches: 4}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG)
    return path


def call(*args: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(arg) for arg in args])
    return int(ended.value.code or 0)


def put(monkeypatch: pytest.MonkeyPatch, module: str, **functions: Any) -> None:
    fake = types.ModuleType(module)
    vars(fake).update(functions)
    monkeypatch.setitem(sys.modules, module, fake)


def test_check_takes_under_a_second_and_no_torch(config: Path) -> None:
    code = (
        "import sys\nfrom r1rl.cli import main\ntry: main(['check', sys.argv[1]])\n"
        "except SystemExit as end: assert not end.code\n"
        "print('heavy:', [m for m in ('torch', 'transformers', 'numpy', 'sympy') if m in sys.modules])"
    )
    seconds = []
    for _ in range(3):  # processor time, the best of three: other work on the machine is not what is measured
        before = os.times()
        done = subprocess.run([sys.executable, "-c", code, config], capture_output=True, text=True, check=True)
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
        assert "heavy: []" in done.stdout
    assert min(seconds) < 1.0


def test_check_prints_stages_and_sizes(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("check", config, "rollout.prompts_per_step=8", "grpo.tokens_per_microbatch=100") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "zero grpo base" in out
    assert "completions per step 128" in out
    assert "updates per rollout 4" in out
    assert "completions per update 32" in out
    assert "tokens per step, at most 196,608" in out
    assert "updates in all 4,000" in out
    assert "completions in all 128,000" in out
    assert "note: stage zero: grpo.tokens_per_microbatch 100" in out


def test_an_error_is_one_line(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("check", config, "grpo.stepz=1") == 2
    caught = capsys.readouterr()
    assert caught.out == ""
    assert caught.err == "r1rl: error: override grpo.stepz=1: unknown key grpo.stepz (nearest: grpo.steps)\n"


def a_run(folder: Path) -> None:
    (folder / "run" / "zero" / "model").mkdir(parents=True)
    (folder / "run" / "config.yaml").write_text(CONFIG)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("check", "Missing argument 'CONFIG' (see r1rl check --help)"),
        ("chekc x", "No such command 'chekc'. Did you mean 'check'? (see r1rl --help)"),
        ("check --bogus x", "No such option: --bogus (see r1rl check --help)"),
        ("check run", "run is a folder; name the YAML file in it"),
        ("run none.yaml --dry-run", "none.yaml: no such configuration file"),
        ("run run/config.yaml --dry-run --devices -1", "Invalid value for '--devices'"),
        ("run run/config.yaml --only nope", "no stage is called nope; the run has base, zero"),
        ("run run/config.yaml output_dir=run/config.yaml", "cannot write run/config.yaml/"),
        ("status none", "none is not a run folder"),
        ("report", "Missing argument 'RUN...' (see r1rl report --help)"),
        ("report none", "none is not a folder; give the folder of a run"),
        ("report run/zero", "run/zero is not a run folder"),
        ("report run --out run", "cannot write run: Is a directory; choose another path"),
        ("report run --svg run", "none of reward/accuracy/mean, reward/format/mean was logged"),
        ("export run/zero", "Missing argument 'FOLDER' (see r1rl export --help)"),
        ("export run/zero out --dtype int4", "Invalid value for '--dtype'"),
        ("export run/zero out", "run/zero holds no model (config.json)"),
        ("export run/none out", "run/none is not a folder; give a model folder, RUN/STAGE, or a Hugging Face name"),
        ("chat run/none", "run/none is not a folder"),
        ("chat ./none", "./none is not a folder"),
        ("chat run/zero --temperature -1", "Invalid value for '--temperature'"),
        ("doctor none", "none: no such configuration file"),
        ("doctor run", "run has no metrics of a grpo stage"),
        ("grade none.jsonl", "none.jsonl does not exist"),
        ("grade rows.jsonl --out run", "cannot write run: Is a directory"),
        ("reward rows.jsonl --reward acuracy", "did you mean 'accuracy'?"),
    ],
)
def test_a_slip_is_one_line_that_says_what_to_change(
    words: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a_run(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"completion": "1", "answer": "1"}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert call(*words.split()) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("r1rl: error: ")
    assert says in last
    assert not list(tmp_path.glob(".*.partial"))


def test_no_word_at_all_shows_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    assert "doctor" in capsys.readouterr().out


def test_python_dash_m() -> None:
    done = subprocess.run([sys.executable, "-m", "r1rl", "check", "none.yaml"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "r1rl: error: none.yaml: no such configuration file\n"


def test_run_hands_over_the_configuration(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[RunConfig] = []

    def run_recipe(run: RunConfig) -> Path:
        seen.append(run)
        return Path("runs/x")

    put(monkeypatch, "r1rl.recipe.run", run_recipe=run_recipe)
    assert call("run", config, "seed=5") == 0
    assert seen[0].seed == 5
    assert capsys.readouterr().out == ""  # the run itself says where it is, once
    assert call("run", "--quiet", config) == 0
    assert seen[1].tracking.console is False
    assert capsys.readouterr().out == ""


def test_yes_agrees_beforehand(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, object]] = []

    def run_recipe(run: RunConfig, **chosen: object) -> Path:
        seen.append(chosen)
        return Path("runs/x")

    put(monkeypatch, "r1rl.recipe.run", run_recipe=run_recipe)
    assert call("run", "--yes", "--from", "base", config) == 0
    assert seen == [{"start": "base", "yes": True}]


@pytest.mark.parametrize(
    ("error", "code"), [(TrainingError("loss is\nnot finite"), 2), (KeyboardInterrupt(), 130)], ids=["guard", "ctrl-c"]
)
def test_how_a_run_ends(
    error: BaseException, code: int, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_recipe(run: RunConfig) -> Path:
        raise error

    put(monkeypatch, "r1rl.recipe.run", run_recipe=run_recipe)
    assert call("run", config) == code
    assert "Traceback" not in capsys.readouterr().err


def test_an_unexpected_error_keeps_its_traceback(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_recipe(run: RunConfig) -> Path:
        raise ZeroDivisionError

    put(monkeypatch, "r1rl.recipe.run", run_recipe=run_recipe)
    with pytest.raises(ZeroDivisionError):
        main(["run", str(config)])


def test_commands_of_other_rooms(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def grade(gold: str, answer: str, times: int = 1) -> None:
        """Grades."""
        print(gold, answer, times)

    put(monkeypatch, "r1rl.scoring.commands", grade=grade)
    assert call("grade", "1/2", "0.5", "--times", "3") == 0
    assert capsys.readouterr().out == "1/2 0.5 3\n"
    assert call("grade", "--help") == 0
    assert "--times" in capsys.readouterr().out
    assert call("grade", "--wrong") == 2


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0
    assert capsys.readouterr().out.startswith("r1rl 0.")

"""Relative paths mean the same thing wherever a command is started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from r1rl.config import dump_config, load_config, stage_config
from r1rl.config.merge import read_layers
from r1rl.config.paths import SHIPPED, launch_file, launch_names

CONFIG = """
extends: ../base.yaml
name: here
model: tiny
data:
  train: { mine: { path: rows.jsonl }, sums: { path: "generated:arithmetic" }, hub: { path: openai/gsm8k } }
rewards:
  short: { function: "rewards.py:short", args: { table: data/table.json, language: en, missing: no/such.json } }
  accuracy: 1.0
sample: { mix: { more: { path: rows.jsonl } } }
stages:
  tiny: { kind: pretrain, launch: zero2 }
  other: { kind: grpo, model: tiny, data: rows.jsonl, launch: mine.yaml }
  third: { kind: grpo, model: other }
  out: { kind: export, model: ./tiny, export: { folder: made/model } }
"""
BASE = """
data: { eval: { held: { path: held.jsonl }, both: { path: rows.jsonl } } }
rollout: { prompts_per_step: 2 }
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """``project/configs/mine.yaml`` with its files, and a folder ``elsewhere`` that is a current one."""
    folder = tmp_path / "project" / "configs"
    (folder / "data").mkdir(parents=True)
    (folder / "tiny").mkdir()
    (folder / "tiny" / "config.json").write_text("{}")
    (folder / "mine.yaml").write_text(CONFIG)
    (folder.parent / "base.yaml").write_text(BASE)
    for name in ("rows.jsonl", "data/table.json"):
        (folder / name).write_text("{}")
    (folder / "rewards.py").write_text("def short(completions, **kwargs): return [0.0] * len(completions)\n")
    (folder.parent / "held.jsonl").write_text("{}")
    (tmp_path / "elsewhere").mkdir()
    return folder


def paths(file: Path) -> dict[str, str | None]:
    """What a configuration's paths have become."""
    run = load_config(file)
    other, tiny, out = (stage_config(run, name) for name in ("other", "tiny", "out"))
    return {
        "data": run.data.train["mine"].path,
        "generated": run.data.train["sums"].path,
        "hub": run.data.train["hub"].path,
        "base's": run.data.eval["held"].path,
        "base's too": run.data.eval["both"].path,
        "mix": run.sample.mix["more"].path,
        "stage's data": other.data.train["rows"].path,
        "reward": run.rewards["short"].function,
        "argument": run.rewards["short"].args["table"],
        "plain argument": run.rewards["short"].args["language"],
        "missing argument": run.rewards["short"].args["missing"],
        "model of the run": tiny.model.path,
        "model of a stage": other.model.path,
        "model by path": out.model.path,
        "launch": run.stages["other"].launch,
        "launch by name": run.stages["tiny"].launch,
        "export": run.stages["out"].export["folder"] if run.stages["out"].export else None,
    }


def test_the_file_s_folder_comes_first_and_then_the_current_one(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = project.parents[1] / "elsewhere"
    (elsewhere / "rows.jsonl").write_text("other rows")  # seen only from base.yaml, which has none beside it
    expected = {
        "data": f"{project}/rows.jsonl",
        "generated": "generated:arithmetic",
        "hub": "openai/gsm8k",
        "base's": f"{project.parent}/held.jsonl",
        "base's too": f"{elsewhere}/rows.jsonl",
        "mix": f"{project}/rows.jsonl",
        "stage's data": f"{project}/rows.jsonl",
        "reward": f"{project}/rewards.py:short",
        "argument": f"{project}/data/table.json",
        "plain argument": "en",
        "missing argument": "no/such.json",
        "model of the run": "tiny",  # a stage of that name comes before a folder
        "model of a stage": "tiny",
        "model by path": f"{project}/tiny",
        "launch": f"{project}/mine.yaml",
        "launch by name": "zero2",
        "export": f"{elsewhere}/made/model",
    }
    monkeypatch.chdir(elsewhere)
    assert paths(Path("../project/configs/mine.yaml")) == expected
    dump_config(load_config(project / "mine.yaml"), elsewhere / "runs" / "here" / "config.yaml")
    monkeypatch.chdir("/")
    assert paths(elsewhere / "runs" / "here" / "config.yaml") == expected


def test_overrides_are_looked_for_from_the_current_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = project.parents[1] / "elsewhere"
    (elsewhere / "rows.jsonl").write_text("{}")
    monkeypatch.chdir(elsewhere)
    overrides = ["data.train.mine.path=rows.jsonl", "stages.other.launch=nowhere.yaml"]
    run = load_config(project / "mine.yaml", overrides)
    assert run.data.train["mine"].path == f"{elsewhere}/rows.jsonl"
    assert run.stages["other"].launch == "nowhere.yaml"


def test_extends_looks_in_the_current_folder_too(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    deep = project / "deep" / "deep.yaml"
    deep.parent.mkdir()
    deep.write_text("extends: ../base.yaml\n")  # project/base.yaml from here; from the file, there is none
    raw, _ = read_layers(deep)
    assert raw["rollout"] == {"prompts_per_step": 2}


def test_no_text_is_too_odd_to_be_looked_for(project: Path) -> None:
    odd = ["a/" * 4000, "x" * 300 + ".json", "\\0/x", "", " ", ".", ".."]
    overrides = [f"rewards.short.args.a{i}={text!r}" for i, text in enumerate(odd)]
    load_config(project / "mine.yaml", overrides)


@pytest.mark.parametrize("name", ["zero2", "zero2.yaml", "launch/accelerate/zero2.yaml"])
def test_launch_files_that_come_with_r1rl_are_found_by_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert launch_file(name) == SHIPPED / "zero2.yaml"
    assert "deepspeed_config" in (SHIPPED / "zero2.yaml").read_text()
    (tmp_path / "zero2.yaml").write_text("mine")
    (tmp_path / "zero2").mkdir()
    if name == "zero2.yaml":
        assert launch_file(name) == tmp_path / name  # the user's own comes first


def test_other_launch_files_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [launch_file(name) for name in ("zero9", "elsewhere/zero2.yaml", "../zero2.yaml", "")] == [None] * 4
    assert set(launch_names()) == {file.stem for file in Path(os.path.realpath(SHIPPED)).glob("*.yaml")}

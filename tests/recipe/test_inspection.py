"""What `r1rl check` looks at: files, columns, rewards, models, launch files of all stages, in one list."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from r1rl.cli import main
from r1rl.config import load_config
from r1rl.recipe.inspection import inspect

PLAN = """
model: {model}
data:
  train: {{ mine: {{ path: {folder}/mine.csv, question: Question, answer: Answer }} }}
  eval: {{ hub: {{ path: openai/gsm8k, subset: main }} }}
rewards:
  accuracy: 1.0
  brief: {{ function: "{folder}/my_rewards.py:brief", args: {{ most: 3, table: {folder}/mine.csv }} }}
stages:
  base: {{ kind: pretrain }}
  draw: {{ kind: sample, model: base, sample: {{ mix: {{ more: {{ path: {folder}/pairs.jsonl }} }} }} }}
  tune: {{ kind: sft, model: base, data: "${{draw.data}}" }}
  talk: {{ kind: sft, model: base, data: {folder}/talk.jsonl, sft: {{ response: said }} }}
  like: {{ kind: reward_model, model: base, data: {folder}/pairs.jsonl }}
  zero: {{ kind: grpo, launch: {folder}/ddp.yaml }}
"""
CODE = """
raise SystemExit("imported")
import torch
from elsewhere import *  # STAR
def brief(completions, *, most=9, table=None, **columns):
    return [0.0] * len(completions)
if torch:
    from other import judge as asked
Class, also = object, 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows: dict[str, list[dict[str, Any]]] = {
        "talk": [{"question": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}],
        "pairs": [{"question": "Q", "response": "R", "chosen": "a", "rejected": "b"}],
    }
    for name, values in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(value) + "\n" for value in values))
    (tmp_path / "mine.csv").write_text("Question,Answer\n1+1,#### 2\n")
    (tmp_path / "my_rewards.py").write_text(CODE.replace("from elsewhere import *  # STAR\n", ""))
    (tmp_path / "ddp.yaml").write_text("num_processes: 2\n")
    (tmp_path / "model").mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / "model" / name).write_text("{}")
    return tmp_path


@pytest.fixture
def plan(folder: Path) -> Path:
    path = folder / "plan.yaml"
    path.write_text(PLAN.format(folder=folder, model=folder / "model"))
    return path


def wrong(plan: Path, *overrides: str) -> list[str]:
    return [f"{each.what}: {each.text}" for each in inspect(load_config(plan, overrides)) if each.ok is False]


def test_what_is_there_and_what_cannot_be_told(plan: Path, folder: Path) -> None:
    found = inspect(load_config(plan))
    assert {each.what: stages for each, stages in found.items() if each.ok is None} == {
        "data.eval.hub": ["draw", "tune", "talk", "like", "zero"],
        "data.train.draw": ["tune"],
    }
    assert {each.what for each in found if each.ok} == {
        "model.path", "data.train.mine", "data.train.talk", "data.train.pairs", "sample.mix.more", "rewards.accuracy",
        "rewards.brief", "rewards.brief.args.table", "launch",
    }  # fmt: skip
    assert not wrong(plan)
    assert f"{folder}/my_rewards.py:4" in next(each.text for each in found if each.what == "rewards.brief")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("data.train.mine.path={folder}/mone.csv", "data.train.mine: dataset file {folder}/mone.csv does not exist"),
        ("data.train.mine.path={folder}/mone.csv", "did you mean {folder}/mine.csv?"),
        ("data.train.mine.question=question", "no column 'question'; it has Question, Answer"),
        ("data.train.mine.question=question", "did you mean 'Question'?"),
        ("data.train.mine.answer=gold", "no column 'gold'"),
        ("data.train.mine.question_from={{Question}} of {{Topic}}", "no column 'Topic'"),
        ("data.train.mine.answer_pattern=answer is (.+)", "finds anything, among the first 1 rows; the first is '####"),
        ("data.train.mine.skip=5", "has no row that can be read after skip: 5"),
        ("stages.talk.sft.response=reply", ""),
        ("stages.like.reward_model.chosen=best", "data.train.pairs: {folder}/pairs.jsonl has no column 'best'"),
        ("stages.draw.sample.response=reply", "sample.mix.more: {folder}/pairs.jsonl has no column 'reply'"),
        ("rewards.brief.function={folder}/my_rewards.py:breif", "my_rewards.py has no 'breif'; did you mean 'brief'?"),
        ("rewards.brief.function={folder}/my_rewards.py:asked", ""),
        ("rewards.brief.function={folder}/my_rewards.py:Class", ""),
        ("rewards.brief.function={folder}/rewards.py:brief", "reward file '{folder}/rewards.py' does not exist"),
        ("rewards.brief.function=no_such.module:f", "module 'no_such.module' does not exist"),
        ("rewards.brief.function=json.decoder:JSONDecoder", ""),
        ("rewards.brief.function=json.decoder:JSONDecodr", "has no 'JSONDecodr'; did you mean 'JSONDecoder'?"),
        ("rewards.brief.function=acuracy", "no reward is called 'acuracy'; did you mean 'accuracy'?"),
        ("rewards.brief.args.mots=3", "reward 'brief' takes no argument 'mots'; did you mean 'most'?"),
        ("rewards.brief.args.table={folder}/none.csv", "rewards.brief.args.table: {folder}/none.csv does not exist"),
        ("rewards.brief.args.table=[.!?]", ""),
        ("rewards.length.function=soft_overlong", "reward 'length' needs max_length, buffer; give them under its args"),
        ("rewards.length.args.part=x", "reward 'length' takes no argument 'part'"),
        ("stages.zero.model={folder}/modle", "no such folder: {folder}/modle does not exist"),
        ("stages.zero.model={folder}/modle", "did you mean {folder}/model?"),
        ("stages.zero.model={folder}", "has no config.json"),
        ("stages.zero.launch={folder}/dpp.yaml", "launch: {folder}/dpp.yaml does not exist; did you mean {folder}/ddp"),
        ("data.train.mine.path=generated:nothing", "no generated source is called 'nothing'; registered: arithmetic, "),
        ("data.train.mine.path=generated:json.decoder:rows", "has no 'rows'"),
    ],
)
def test_what_is_missing_is_found(plan: Path, folder: Path, override: str, says: str) -> None:
    found = wrong(plan, override.format(folder=folder))
    assert says.format(folder=folder) in "; ".join(found)
    assert bool(says) == bool(found)


def test_everything_missing_is_in_one_list(plan: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mine.csv").unlink()
    (folder / "talk.jsonl").unlink()
    (folder / "model" / "model.safetensors").unlink()
    with pytest.raises(SystemExit) as ended:
        main(["check", str(plan), "rewards.brief.function=gone.py:brief"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "stage draw, zero: data.train.mine: dataset file" in said
    assert "stage talk: data.train.talk: dataset file" in said
    assert "stage zero: model.path:" in said
    assert "has no weights" in said
    assert "rewards.brief: reward file 'gone.py' does not exist" in said


def test_a_module_that_makes_its_names_is_left_alone(plan: Path, folder: Path) -> None:
    (folder / "my_rewards.py").write_text(CODE)
    found = inspect(load_config(plan, [f"rewards.brief.function={folder}/my_rewards.py:anything"]))
    assert [each.ok for each in found if each.what == "rewards.brief"] == [None]


def test_nothing_of_the_users_runs_and_no_package_is_imported(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "trl"]:
        monkeypatch.delitem(sys.modules, name)
    trl = "rewards.trl={function: trl.rewards.format_rewards:think_format_reward}"
    assert not wrong(plan, trl, "rewards.lazy={function: trl.rewards:think_format_reward}")
    assert "trl" not in sys.modules


def test_the_configuration_of_every_stage_is_told(plan: Path) -> None:
    with pytest.raises(Exception, match="zero") as error:
        load_config(
            plan, ["stages.zero.grpo={stepz: 1}", "stages.draw.sample={keep: {nope: 1}}", "rollout.group_size=1"]
        )
    assert all(part in str(error.value) for part in ("stages.zero.grpo.stepz", "no reward is called nope"))


def test_rows_of_a_users_function_are_not_looked_at(tmp_path: Path, folder: Path) -> None:
    source = f"{{path: {folder}/mine.csv, question: made, map: '{folder}/my_rewards.py:brief'}}"
    (tmp_path / "run.yaml").write_text(
        f"model: {folder}/model\nrewards: {{format: 1.0}}\ndata: {{train: {{mine: {source}}}}}\n"
    )
    found = {each.what: each for each in inspect(load_config(tmp_path / "run.yaml"))}
    assert found["data.train.mine"].ok is None
    assert "makes its rows" in found["data.train.mine"].text
    assert found["data.train.mine.map"].ok, "but the function is there"

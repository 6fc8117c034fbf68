"""The matrix of docs/resume.md: what every kind of change does, cell by cell."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from r1rl.config import load_config
from r1rl.config.renamed import RENAMED
from r1rl.errors import R1Error
from r1rl.fingerprint import identity
from r1rl.fingerprint.docs import key_table
from r1rl.recipe import run as recipe_run
from r1rl.recipe.graph import graph
from r1rl.recipe.run import run_recipe
from r1rl.recipe.status import status
from r1rl.recipe.verdict import StageState, forecast
from tests.support.fakes import Fakes

PAGE = Path(__file__).parents[2] / "docs" / "resume.md"
PLAN = """
name: plan
output_dir: {folder}/runs
device: cpu
stages:
  base: {{ kind: pretrain }}
  tuned: {{ kind: sft, model: base }}
  drawn: {{ kind: sample, model: base }}
  taught: {{ kind: sft, model: base, data: "${{drawn.data}}" }}
  rl:
    kind: grpo
    model: tuned
    data:
      train:
        sums: null
        rows: {{ path: {folder}/rows.jsonl, weight: 2 }}
        made: {{ path: "generated:makers:rows" }}
      eval: {{ held: {{ path: {folder}/held.jsonl }} }}
    rewards:
      own: {{ function: "{folder}/own.py:own", args: {{ words: {folder}/words.txt }} }}
      packed: {{ function: "pack.inner:packed" }}
  after: {{ kind: grpo, model: rl }}
  score: {{ kind: evaluate, model: rl }}
data:
  train: {{ sums: {{ path: generated:arithmetic, args: {{ size: 9 }} }} }}
  eval: {{ other: {{ path: generated:arithmetic, args: {{ size: 3, split: test }} }} }}
rewards: {{ accuracy: 1.0 }}
rollout: {{ prompts_per_step: 2, group_size: 2 }}
grpo: {{ steps: 4, loss: "losses:loss" }}
sft: {{ epochs: 3 }}
tracking: {{ console: false }}
"""
FILES = {
    "rows.jsonl": '{"question": "q", "answer": "1"}\n' * 50,
    "held.jsonl": '{"question": "held", "answer": "1"}\n',
    "words.txt": "words",
    "own.py": "import helper\ndef own(completions, words, **kwargs): return [0.0] * len(completions)\n",
    "helper.py": "LIMIT = 1\n",
    "beside.py": "NOBODY_IMPORTS = 1\n",
    "makers.py": "def rows(): return [{'question': 'q', 'answer': '1'}]\n",
    "losses.py": "LIMIT = 1\n",
    "pack/__init__.py": "",
    "pack/inner.py": "from pack import deep\ndef packed(completions, **kwargs): return [0.0] * len(completions)\n",
    "pack/deep.py": "DEEP = 1\n",
}


@dataclass
class House:
    """A plan on disk, run by stages that learn nothing."""

    folder: Path
    fakes: Fakes

    @property
    def run_folder(self) -> Path:
        return self.folder / "runs" / "plan"

    def run(self, *overrides: str, yes: bool = False, **chosen: str) -> dict[str, int]:
        """Stages that ran, and the step that each began after."""
        self.fakes.ran.clear()
        try:
            run_recipe(load_config(self.folder / "plan.yaml", overrides), yes=yes, **chosen)  # type: ignore[arg-type]
        except R1Error as error:
            if "stopped" not in str(error):
                raise
        return dict(self.fakes.ran)

    def edit(self, name: str, text: str | None = None) -> None:
        """Give a file other content of the same size, or ``text``."""
        path = self.folder / name
        old = path.read_text()
        path.write_text(old.replace("1", "2").replace("words", "other") if text is None else text)
        assert path.read_text() != old


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "plan.yaml").write_text(PLAN.format(folder=tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    fakes = Fakes()
    monkeypatch.setattr(recipe_run, "_call", fakes.call)
    monkeypatch.setattr(recipe_run, "preflight", lambda nodes: None)  # reward files of the same name, test after test
    monkeypatch.setattr(recipe_run, "write_report", lambda folder: None)
    return House(tmp_path, fakes)


Change = Callable[[House], tuple[str, ...]]
"""Makes a change and returns overrides that belong to it."""


def keys(*overrides: str) -> Change:
    return lambda house: overrides


def edits(name: str) -> Change:
    def change(house: House) -> tuple[str, ...]:
        house.edit(name)
        return ()

    return change


def moves(house: House) -> tuple[str, ...]:
    shutil.move(house.folder / "rows.jsonl", house.folder / "moved.jsonl")
    return (f"stages.rl.data.train.rows.path={house.folder}/moved.jsonl",)


def moves_run(house: House) -> tuple[str, ...]:
    shutil.move(house.run_folder, house.folder / "runs" / "other")
    return ("name=other",)


def comments(house: House) -> tuple[str, ...]:
    (house.folder / "plan.yaml").write_text("# another comment\n" + (house.folder / "plan.yaml").read_text())
    return ()


def upgrades(house: House) -> tuple[str, ...]:
    for name in ("fingerprint", "stage.json"):
        for file in house.run_folder.glob(f"*/{name}"):
            file.write_text(file.read_text().replace(identity.r1rl.__version__, "0.0.1"))
    return ()


def gains_keys(house: House) -> tuple[str, ...]:
    """As if the run had been made by a version without some keys of this one, and with one that is gone."""
    for name in ("fingerprint", "stage.json"):
        for file in house.run_folder.glob(f"*/{name}"):
            found = json.loads(file.read_text())
            noted = found["identity"]
            for key in ("grpo.mask_truncated", "model.revision", "data.train.rows.skip"):
                noted["values"].pop(key, None)
                noted["effects"].pop(key, None)
            noted["values"]["grpo.gone"], noted["effects"]["grpo.gone"] = 1, "learned"
            file.write_text(json.dumps(found))
    return ()


def uses_former_names(house: House) -> tuple[str, ...]:
    """As if the run had been made by a version that called some keys otherwise, and its file were still that one."""
    plan = house.folder / "plan.yaml"
    plan.write_text(plan.read_text().replace("function:", "use:").replace("prompts_per_step:", "prompts:"))
    former = {".".join((*path[:-1], name)): ".".join(path) for path, name in RENAMED.items()}
    assert former["rewards.NAME.function"] == "rewards.NAME.use"
    for name in ("fingerprint", "stage.json"):
        for file in house.run_folder.glob(f"*/{name}"):
            text = re.sub(r'"rewards\.(\w+)\.function"', r'"rewards.\1.use"', file.read_text())
            for key, old in former.items():
                text = text.replace(f'"{key}"', f'"{old}"')
            file.write_text(text)
    assert '"grpo.lr"' in (house.run_folder / "rl" / "fingerprint").read_text()
    return ("stages.rl.grpo.lr=3e-6",)


ROWS: dict[str, Change] = {
    "a key that is free": keys("grpo.tokens_per_microbatch=64", "grpo.deadline_s=7", "grpo.guards.action=stop"),
    "a key of a section that the stage does not read": keys("reward_model.learning_rate=1e-3", "export.dtype=float32"),
    "comments, order, where a key is written": comments,
    "the run folder moved or renamed": moves_run,
    "the machine, the processes, `launch`": keys("device=auto", "threads=3"),
    "more `grpo.steps`": keys("stages.rl.grpo.steps=6"),
    "fewer `grpo.steps`": keys("stages.rl.grpo.steps=1"),
    "more `sft.epochs`, `reward_model.epochs`": keys("sft.epochs=4"),
    "any other key": keys("stages.rl.grpo.learning_rate=1e-3"),
    "a training source removed": keys("stages.rl.data.train.made=null"),
    "a reward added": keys("stages.rl.rewards.format=1"),
    "a reward removed": keys("stages.rl.rewards.packed=null"),
    "`sample.filters`, or a key like it": keys("sample.filters.min_tokens=3", "sample.keep.accuracy=0.7"),
    "a local training file, anywhere in it": edits("rows.jsonl"),
    "a local file moved or renamed": moves,
    "a local evaluation file": edits("held.jsonl"),
    "a reward's file": edits("own.py"),
    "a module beside it that it imports": edits("helper.py"),
    "a module beside it that it does not import": edits("beside.py"),
    "a module that `package.module:name` imports from its package": edits("pack/deep.py"),
    "a file that a reward's `args` name": edits("words.txt"),
    "a generator's code": edits("makers.py"),
    "the code of your own loss, advantage scale or template": edits("losses.py"),
    "r1rl's version": upgrades,
    "keys that this version of r1rl does not know, or added": gains_keys,
    "a renamed key, under its former name": uses_former_names,
}
AT = {"more `sft.epochs`, `reward_model.epochs`": "tuned", "`sample.filters`, or a key like it": "drawn"}
"""The stage that a row is about: the GRPO stage, except where a row says otherwise."""


def table() -> dict[str, list[str]]:
    """The matrix on the page: its rows by their first cell."""
    text = PAGE.read_text(encoding="utf-8").partition("<!-- matrix -->")[2].partition("<!-- /matrix -->")[0]
    lines = [line.strip("|\n ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines[2:]}


def outcome(house: House, name: str, change: Change) -> tuple[str, str]:
    """What becomes of a stage of this name, and whether somebody is asked, as the page's last column says it."""
    overrides = change(house)
    before = {path.name for path in house.run_folder.glob("*")}
    refusal = ""
    try:
        ran = house.run(*overrides)
    except R1Error as error:
        refusal = str(error)
    if refusal:
        assert {path.name for path in house.run_folder.glob("*")} == before  # nothing was touched
        ran = house.run(*overrides, yes=True)
    own = re.search(rf"stage {name}: .*--yes", refusal)
    asked = "yes" if own else "for what builds on it" if f"builds on {name}" in refusal else "no"
    if name not in ran:
        return "stays", asked
    assert (house.run_folder / f"{name}.1").exists() == (ran[name] == 0)
    return ("redone" if ran[name] == 0 else "resumes"), asked


def test_every_row_of_the_page_is_tested_and_every_test_is_on_the_page() -> None:
    assert list(table()) == list(ROWS)


def test_the_page_lists_the_keys_of_the_code() -> None:
    assert key_table() in PAGE.read_text(encoding="utf-8"), "run: python -m r1rl.fingerprint.docs"


@pytest.mark.parametrize("row", ROWS)
def test_a_stage_that_was_interrupted(house: House, row: str) -> None:
    name = AT.get(row, "rl")
    house.fakes.stop_at = {name: 2}
    house.run()
    house.fakes.stop_at = {}
    expected, _, _, asked = table()[row]
    found, was_asked = outcome(house, name, ROWS[row])
    assert found == expected
    assert (was_asked == "yes") == (asked == "yes" and found == "redone")


@pytest.mark.parametrize("row", ROWS)
def test_a_stage_that_is_done_and_what_builds_on_it(house: House, row: str) -> None:
    name = AT.get(row, "rl")
    house.run()
    _, expected, downstream, asked = table()[row]
    found, was_asked = outcome(house, name, ROWS[row])
    assert found == expected
    assert was_asked == asked
    below = {"rl": "after", "tuned": "rl", "drawn": "taught"}[name]
    assert ("redone" if below in house.fakes.ran else "stays") == downstream


def test_what_builds_on_a_stage_that_goes_further_asks_too(house: House) -> None:
    """More steps lose nothing of the stage itself, but all of a training stage that starts from its model."""
    house.run()
    with pytest.raises(R1Error, match="stage after: builds on rl") as caught:
        house.run("stages.rl.grpo.steps=6")
    assert "stage rl:" not in str(caught.value)
    assert "stage score:" not in str(caught.value)  # measured again without asking
    assert house.run("stages.rl.grpo.steps=6", yes=True) == {"rl": 4, "after": 0, "score": 0}
    assert house.run("stages.rl.grpo.steps=6") == {}


def test_what_builds_on_samples_that_are_sifted_again_asks(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    house.run()
    with pytest.raises(R1Error, match="stage taught: builds on drawn") as caught:
        house.run("sample.per_problem=2")
    assert "stage drawn:" not in str(caught.value)
    verdicts = forecast(graph(load_config(house.folder / "plan.yaml", ["sample.per_problem=2"])), house.run_folder)
    assert verdicts["drawn"].state is StageState.SIFT
    (house.run_folder / "drawn" / "data.jsonl").write_text("edited by its owner")
    capsys.readouterr()
    assert house.run("sample.per_problem=2", yes=True) == {"drawn": 4, "taught": 0}
    assert (house.run_folder / "drawn" / "data.jsonl.1").read_text() == "edited by its owner"
    assert house.run("sample.per_problem=2") == {}


def test_samples_that_are_gone_cannot_be_sifted_again(house: House) -> None:
    house.run()
    (house.run_folder / "drawn" / "samples-0.jsonl").unlink()
    with pytest.raises(R1Error, match=r"stage drawn: sample.deduplicate True → False \(finished\)"):
        house.run("sample.deduplicate=false")
    assert house.run("sample.deduplicate=false", yes=True) == {"drawn": 0, "taught": 0}


def test_a_stage_made_again_alike_keeps_what_builds_on_it(house: House) -> None:
    house.run()
    for altered, rebuilt in (("removed", {"rl": 4}), ("changed", {"rl": 4})):
        model = house.run_folder / "rl" / "model"
        if altered == "removed":
            shutil.rmtree(model)
        else:
            (model / "config.json").write_text("spoilt, or edited by its owner")
        assert house.run() == rebuilt
    assert (house.run_folder / "rl" / "model.1" / "config.json").read_text().startswith("spoilt")


def test_a_stage_that_comes_out_otherwise_takes_what_builds_on_it_along(house: House) -> None:
    """On machines that do not repeat, a model made again is another one: its evaluation no longer holds."""
    house.run()
    shutil.rmtree(house.run_folder / "rl" / "model")
    house.fakes.chance = "another"
    assert house.run(only="rl") == {"rl": 4}
    results = json.loads((house.run_folder / "results.json").read_text())
    assert "rl" in results
    assert "score" not in results  # the figures there are of the old model
    with pytest.raises(R1Error, match=r"stage after: model.path: what .* holds"):
        house.run()
    assert set(house.run(yes=True)) == {"after", "score"}


def test_a_finished_stage_whose_outputs_were_edited_is_not_overwritten(house: House) -> None:
    house.run()
    (house.run_folder / "tuned" / "model" / "config.json").write_text("edited by its owner")
    with pytest.raises(R1Error, match="stage tuned: its model is not as it left it"):
        house.run()
    assert house.run(yes=True) == {"tuned": 0}
    assert (house.run_folder / "tuned.1" / "model" / "config.json").read_text() == "edited by its owner"


def test_a_finished_stage_whose_outputs_were_deleted_is_not_trained_again_unasked(house: House) -> None:
    """SFT has no checkpoint left to make its model from; an evaluation costs little, and what is there stays."""
    house.run()
    shutil.rmtree(house.run_folder / "tuned" / "model")
    with pytest.raises(R1Error, match="stage tuned: its model is missing, and no checkpoint is left to rebuild it"):
        house.run()
    assert forecast(graph(load_config(house.folder / "plan.yaml")), house.run_folder)["tuned"].state is StageState.REDO
    assert house.run(yes=True) == {"tuned": 0}  # it came out alike
    assert (house.run_folder / "tuned.1" / "stage.json").is_file()
    (house.run_folder / "score" / "evaluation.json").unlink()
    assert house.run() == {"score": 0}
    assert not (house.run_folder / "score.1").exists()


def test_from_redoes_without_asking_and_keeps_the_earlier_outputs(house: House) -> None:
    house.run()
    assert house.run(start="rl") == {"rl": 0, "after": 0, "score": 0}
    assert (house.run_folder / "rl.1" / "stage.json").is_file()


def test_from_redoes_an_interrupted_stage_and_resumes_its_own_attempt(house: House) -> None:
    house.fakes.stop_at = {"rl": 2}
    house.run()
    assert house.run(start="rl") == {"rl": 0}
    assert (house.run_folder / "rl.1" / "checkpoints" / "step-2").is_dir()
    house.fakes.stop_at = {"after": 1}
    assert house.run(start="rl") == {"rl": 2, "after": 0}  # the same command resumes
    house.fakes.stop_at = {}
    assert house.run(start="rl") == {"after": 1, "score": 0}
    assert house.run(start="rl") == {"rl": 0, "after": 0, "score": 0}  # the attempt had ended


def test_an_attempt_of_from_ends_with_another_command(house: House) -> None:
    house.run()
    house.fakes.stop_at = {"rl": 2}
    assert house.run(start="rl") == {"rl": 0}
    house.fakes.stop_at = {}
    assert house.run() == {"rl": 2}  # it came out alike
    assert house.run(start="rl") == {"rl": 0, "after": 0, "score": 0}


def test_a_stage_with_nothing_saved_is_redone_without_asking(house: House) -> None:
    house.fakes.stop_at = {"rl": 0}
    house.run()
    house.fakes.stop_at = {}
    assert house.run("stages.rl.grpo.learning_rate=1e-3") == {"rl": 0, "after": 0, "score": 0}


def test_fewer_steps_and_back_again(house: House) -> None:
    house.run()
    assert house.run("stages.rl.grpo.steps=2") == {}
    assert house.run() == {}
    house.fakes.stop_at = {"rl": 5}
    assert house.run("stages.rl.grpo.steps=6", yes=True) == {"rl": 4}
    house.fakes.stop_at = {}
    assert house.run() == {}  # the model of four steps is still there


def test_a_person_at_the_terminal_is_asked_once(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    house.run()
    asked: list[str] = []
    replies = iter(["n", "y"])
    monkeypatch.setattr(recipe_run, "_at_terminal", lambda: True)
    monkeypatch.setattr("builtins.input", lambda prompt: asked.append(prompt) or next(replies))
    before = (house.run_folder / "config.yaml").read_text()
    with pytest.raises(R1Error, match="nothing was touched"):
        house.run("stages.tuned.sft.learning_rate=1e-3")
    assert (house.run_folder / "config.yaml").read_text() == before
    assert "tuned: sft.learning_rate 5e-05 → 0.001 (finished)" in capsys.readouterr().out
    assert house.run("stages.tuned.sft.learning_rate=1e-3") == {"tuned": 0, "rl": 0, "after": 0, "score": 0}
    assert len(asked) == 2


def test_plan_and_status_say_what_would_be_redone_and_why(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    house.run()
    nodes = graph(load_config(house.folder / "plan.yaml", ["stages.rl.grpo.learning_rate=1e-3"]))
    found = forecast(nodes, house.run_folder)
    assert {name: verdict.state for name, verdict in found.items()} == {
        "base": StageState.DONE,
        "tuned": StageState.DONE,
        "rl": StageState.REDO,
        "after": StageState.WAIT,
        "score": StageState.WAIT,
        "drawn": StageState.DONE,
        "taught": StageState.DONE,
    }
    house.edit("helper.py")
    status(house.run_folder)
    shown = " ".join(capsys.readouterr().out.split())
    assert re.search(
        r"rl: redone from its start, its work set aside: rewards.own.function: what \S+ holds \(helper\)", shown
    )
    assert "score: redone if what it builds on comes out differently: " in shown


def test_work_of_a_version_that_noted_nothing_is_not_taken_for_one_s_own(house: House) -> None:
    house.run()
    for file in house.run_folder.glob("rl/*"):
        if file.is_file():
            file.write_text("0123456789abcdef" if file.name == "fingerprint" else "{}")
    with pytest.raises(R1Error, match="stage rl: no record of how it was made"):
        house.run()

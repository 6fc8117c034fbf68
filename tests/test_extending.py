"""The examples of docs/extending.md, run as they stand; what is said of a name that leads nowhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from r1rl import GRPOTrainer, load_config, stage_config
from r1rl.config.grpo import GRPOConfig
from r1rl.errors import ConfigError, R1Error
from r1rl.grpo.advantages import advantages
from r1rl.grpo.losses import Loss, load_loss
from r1rl.recipe.inspection import inspect
from r1rl.registry import ENGINES, KINDS, LOSSES, SCALES, SOURCES, TEMPLATES, TRACKERS, Registry
from r1rl.scoring.load import REWARDS
from r1rl.tracking import read_jsonl
from r1rl.tracking.console import Console

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
REST = """
name: mine
output_dir: {folder}/runs
device: cpu
model: {{ path: {model} }}
rewards: {{ format: 1.0 }}
rollout: {{ prompts_per_step: 2, group_size: 4, max_new_tokens: 8 }}
grpo: {{ steps: 2, minibatches: 2, beta: 0.0, learning_rate: 1e-3, checkpoint_every: 1 }}
data: {{ prompt: {{ max_tokens: 64 }} }}
tracking: {{ console: false }}
"""


@pytest.fixture
def project(tiny_folder: Path, tmp_path: Path) -> Path:
    """The page's files in a folder that is not the current one, and a run of them; returns its configuration."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name, text in re.findall(r"```\w+\n# (my\w+\.\w+|mine\.yaml)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        (folder / name).write_text(text)
    assert len(list(folder.iterdir())) == 7
    (folder / "rest.yaml").write_text(REST.format(folder=tmp_path, model=tiny_folder))
    (folder / "run.yaml").write_text("extends: rest.yaml\n" + (folder / "mine.yaml").read_text())
    return folder / "run.yaml"


def train(file: Path, folder: Path, *overrides: str) -> dict[str, float]:
    config = stage_config(load_config(file, overrides), "grpo")
    return GRPOTrainer(config, folder, console=Console(quiet=True)).train()


def test_the_examples_of_the_page_make_a_run(project: Path, tmp_path: Path) -> None:
    metrics = train(project, tmp_path / "out")
    assert metrics["engine/syncs"] >= 2
    with pytest.raises(ConfigError, match=r"rollout.max_staleness: engine .*my_engines.py:build samples with"):
        train(project, tmp_path / "stale", "rollout.max_staleness=1")
    assert len((tmp_path / "out" / "rewards.txt").read_text().splitlines()) == 2
    sample = next(iter(read_jsonl(tmp_path / "out" / "samples.jsonl")))
    assert sample["prompt"].startswith("WHAT IS ")


def test_check_finds_them_without_running_them(project: Path) -> None:
    for file in project.parent.glob("my_*.py"):
        file.write_text(file.read_text() + "\nraise SystemExit('this file was run')\n")
    found = {item.what: item.ok for item in inspect(load_config(project))}
    keys = ("grpo.loss", "grpo.scale_rewards", "rollout.engine", "tracking.report_to", "data.prompt.template")
    assert [found[key] for key in keys] == [True] * 5


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("grpo.loss=my_losses:lost", "my_losses.py has no 'lost'; did you mean 'loss'?"),
        ("grpo.loss=no_such_losses:loss", "loss module 'no_such_losses' does not exist"),
        ("grpo.scale_rewards=gone.py:scale", "advantage scale file 'gone.py' does not exist"),
        ("rollout.engine=my_engines.py:bild", "my_engines.py has no 'bild'; did you mean 'build'?"),
        ("tracking.report_to=[wandb, 'my_trackers:Line']", "my_trackers.py has no 'Line'; did you mean 'Lines'?"),
        ("data.train.sums.path=generated:my_tasks.py:sum", "my_tasks.py has no 'sum'; did you mean 'sums'?"),
        ("data.prompt.template=my_templates:shot", "my_templates.py has no 'shot'; did you mean 'shout'?"),
    ],
)
def test_check_says_what_is_not_there(project: Path, monkeypatch: pytest.MonkeyPatch, override: str, said: str) -> None:
    monkeypatch.chdir(project.parent)
    wrong = [item.text for item in inspect(load_config(project, [override])) if item.ok is False]
    assert len(wrong) == 1
    assert said in wrong[0]


def test_an_unknown_name_lists_those_there_are(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"grpo.loss names no loss; did you mean 'grpo'\? it is one of grpo, bnpo, "):
        load_config(project, ["grpo.loss=gropo"])


def test_an_edited_loss_is_another_run(project: Path, tmp_path: Path) -> None:
    train(project, tmp_path / "out", "grpo.steps=1")
    file = project.parent / "my_losses.py"
    file.write_text(file.read_text().replace("2 /", "3 /"))
    with pytest.raises(R1Error, match=r"grpo.loss: what .*my_losses.py:loss holds"):
        train(project, tmp_path / "out")
    file.write_text(file.read_text().replace("3 /", "2 /"))
    (project.parent / "my_engines.py").write_text((project.parent / "my_engines.py").read_text() + "\n# faster\n")
    assert train(project, tmp_path / "out")["engine/syncs"] >= 1  # resumes: an engine does not change what is learned


def test_what_is_not_a_loss_is_refused(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text("def loss(inputs, settings): ...\n")
    with pytest.raises(ConfigError, match=r"is function, not an r1rl.grpo.losses.Loss; wrap a function"):
        load_loss(f"{tmp_path}/odd.py:loss")


@pytest.mark.parametrize(
    ("body", "said"),
    [("rewards[:1]", "returned shapes"), ("[r / 0 for r in rewards]", "advantages that are not finite")],
)
def test_a_scale_that_breaks_its_contract_is_refused(tmp_path: Path, body: str, said: str) -> None:
    import numpy as np

    (tmp_path / "odd.py").write_text(f"def scale(rewards, lengths): return {body}\n")
    with pytest.raises(ConfigError, match=said), np.errstate(all="ignore"):
        advantages([np.array([1.0, 2.0]), np.array([1.0])], f"{tmp_path}/odd.py:scale")


@pytest.mark.parametrize(
    "table", [KINDS, LOSSES, SCALES, ENGINES, TRACKERS, TEMPLATES, SOURCES, REWARDS], ids=lambda table: table.what
)
def test_every_row_is_there_where_it_says(table: Registry) -> None:
    assert len(table) > 1
    assert all(table.find(name) is not None for name in table)


def test_a_table_loads_what_it_names() -> None:
    assert all(isinstance(loss, Loss) for loss in LOSSES.values())
    assert GRPOConfig().loss in LOSSES
    assert "ppo" not in LOSSES
    with pytest.raises(KeyError):
        LOSSES["ppo"]
    with pytest.raises(ConfigError, match="no loss is called 'ppo'; did you mean"):
        LOSSES.load("ppo")

"""What goes to the Hugging Face hub: the final model of a run, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from r1rl.config import HubConfig, load_config
from r1rl.errors import ConfigError
from r1rl.recipe import run as recipe_run
from r1rl.recipe.finish import push
from r1rl.stages.base import StageContext, StageResult
from tests.support.fakes import Fakes

PLAN = """
name: plan
device: cpu
data: {{ train: {{ a: {{ path: generated:arithmetic }} }}, eval: {{ b: {{ path: generated:arithmetic }} }} }}
rewards: {{ accuracy: 1.0 }}
model: {{ path: {model} }}
hub: {{ repo: me/model }}
tracking: {{ console: false }}
stages: {stages}
"""
GRPO = "rl: {kind: grpo}"
EVALUATE = "score: {kind: evaluate}"


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``plan(stages)``: a configuration file whose stages learn nothing."""

    def call(kind: str, ctx: StageContext) -> StageResult:
        made = Fakes().call(kind, ctx)
        return StageResult(reports={"folder": ctx.folder / "model"}) if kind == "export" else made

    def written(stages: str) -> Path:
        (tmp_path / "base").mkdir(exist_ok=True)
        (tmp_path / "base" / "config.json").write_text("{}")
        path = tmp_path / "plan.yaml"
        path.write_text(PLAN.format(model=tmp_path / "base", stages=f"{{ {stages} }}"))
        return path

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recipe_run, "_call", call)
    monkeypatch.setattr(recipe_run, "preflight", lambda nodes: None)
    monkeypatch.setattr(recipe_run, "write_report", lambda folder: None)
    return written


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, list[str]]]:
    """Repository, stage and files of every upload, by the interface of ``huggingface_hub``."""
    seen: list[tuple[str, str, list[str]]] = []

    def upload(self: object, *, repo_id: str, folder_path: Path, **kwargs: object) -> None:
        seen.append((repo_id, folder_path.parent.name, sorted(f.name for f in folder_path.iterdir())))

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda *_, **__: None)
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", upload)
    return seen


@pytest.mark.parametrize(
    ("stages", "final"),
    [
        (f"cold: {{kind: sft}}, {EVALUATE}", "cold"),
        (f"one: {{kind: grpo}}, two: {{kind: grpo, model: one}}, {EVALUATE}", "two"),
        (f"{GRPO}, again: {{kind: sft, model: rl}}, prefer: {{kind: reward_model, model: rl}}", "again"),
        (f"{GRPO}, out: {{kind: export, model: rl}}, {EVALUATE}", "out"),
        (f"{GRPO}, out: {{kind: export, model: rl}}, more: {{kind: grpo, model: rl}}", "more"),
        (f"prefer: {{kind: reward_model}}, {EVALUATE}", "prefer"),
    ],
)
def test_the_final_model_is_pushed_once(plan, pushed, stages: str, final: str) -> None:
    recipe_run.run_recipe(load_config(plan(stages)))
    assert pushed == [("me/model", final, ["config.json"])]


def test_a_part_of_the_run_pushes_nothing_and_a_later_one_again(plan, pushed) -> None:
    config = load_config(plan(f"cold: {{kind: sft}}, rl: {{kind: grpo, model: cold}}, {EVALUATE}"))
    recipe_run.run_recipe(config, until="cold")
    assert not pushed
    for _ in range(2):  # nothing is left to train the second time: a failed upload is made up for
        recipe_run.run_recipe(config)
    assert [stage for _, stage, _ in pushed] == ["rl", "rl"]


def test_a_run_without_a_model_has_nothing_to_push(plan) -> None:
    path = plan(EVALUATE)
    with pytest.raises(ConfigError, match=r"plan.yaml:\d+: hub.repo: no stage makes a model to push"):
        load_config(path)
    assert load_config(path, ["hub=null"]).hub is None


@pytest.mark.parametrize("failure", [OSError, RuntimeError])
def test_a_failed_upload_is_a_warning_and_does_not_end_the_run(
    tmp_path: Path, monkeypatch, caplog, failure: type
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise failure("no route to the hub\nmore")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    push(tmp_path, HubConfig(repo="me/model"))
    assert "could not push to me/model (no route to the hub)" in caplog.text

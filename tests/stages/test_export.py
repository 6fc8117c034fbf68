"""An exported folder opens elsewhere and writes the prompts that the model was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from r1rl.config import ExportConfig, ModelConfig, PromptConfig
from r1rl.data.templates import render
from r1rl.errors import ConfigError, ForeignError
from r1rl.files import claim
from r1rl.stages import export

PLAN = """
name: plan
stages: {{ out: {{ kind: export, model: {model} }} }}
data: {{ prompt: {prompt} }}
"""
PROMPTS: list[dict[str, Any]] = [
    {},
    {"system": ""},
    {"system": "Solve it.", "prefill": " <think>", "instruction": "Put it in \\boxed{}."},
    {"template": "raw"},
    {"system": "Think 🙂 {{ x }}.", "prefill": ' \t"𝒙"\\n', "instruction": "答案: 𠮷 {% raw %}"},
]


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: "-".join(prompt) or "default")
def test_the_chat_template_writes_the_same_prompt(stages: Any, tiny: Path, prompt: dict[str, Any]) -> None:
    ctx = stages(PLAN.format(model=tiny, prompt=json.dumps(prompt, ensure_ascii=False)), "out")
    export.run(ctx)
    tokenizer = AutoTokenizer.from_pretrained(ctx.folder / "model")
    question = "What's 3+5?\nExplain {it}."
    written = tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True)
    ours = render(question, tokenizer, PromptConfig(**prompt)).prompt_ids
    assert tuple(written["input_ids"] if not isinstance(written, list) else written) == ours


def test_the_model_is_the_same(stages: Any, tiny: Path) -> None:
    ctx = stages(PLAN.format(model=tiny, prompt="{}"), "out", "export.dtype=float32")
    export.run(ctx)
    a, b = (AutoModelForCausalLM.from_pretrained(folder) for folder in (tiny, ctx.folder / "model"))
    ids = torch.arange(7)[None]
    torch.testing.assert_close(a(ids).logits, b(ids).logits, rtol=0, atol=0)


def test_it_does_not_overwrite_other_things(stages: Any, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    ctx = stages(PLAN.format(model=tiny, prompt="{}"), "out", f"export.folder={tmp_path / 'mine'}")
    with pytest.raises(ConfigError, match="contains files that r1rl did not write"):
        export.run(ctx)


def test_a_project_with_a_configuration_of_its_own_survives(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A config.json makes no folder r1rl's: neither a project's, nor that of a model which others saved."""
    project, model = tmp_path / "project", tmp_path / "model"
    (project / "src").mkdir(parents=True)
    (project / "config.json").write_text("{}")
    (project / "src" / "main.py").write_text("years of work")
    AutoModelForCausalLM.from_pretrained(tiny).save_pretrained(model)
    before = {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    monkeypatch.chdir(project)
    for folder in (project, model, Path("."), Path("../model")):
        with pytest.raises(ConfigError, match="contains files that r1rl did not write"):
            export.export_model(ModelConfig(path=str(tiny)), ExportConfig(), PromptConfig(), folder)
    assert {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()} == before


def test_an_earlier_export_is_replaced_and_what_was_added_is_kept(tiny: Path, tmp_path: Path) -> None:
    model, folder = ModelConfig(path=str(tiny)), tmp_path / "out"
    export.export_model(model, ExportConfig(dtype="float32"), PromptConfig(), folder)
    (folder / "README.md").write_text("my card")
    export.export_model(model, ExportConfig(), PromptConfig(), folder)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    assert (folder / "README.md").read_text() == "my card"
    assert AutoModelForCausalLM.from_pretrained(folder).dtype == torch.bfloat16
    assert [f.name for f in tmp_path.iterdir()] == ["out"]
    (folder / "generation_config.json").write_text('{"do_sample": true}')
    with pytest.raises(ConfigError, match=r"generation_config.json was changed since r1rl wrote it"):
        export.export_model(model, ExportConfig(), PromptConfig(), folder)


@pytest.fixture
def run(tiny: Path, tmp_path: Path) -> Path:
    """A run with one finished stage that trained."""
    folder = tmp_path / "runs" / "x"
    claim(folder)
    claim(folder / "base")
    claim(folder / "base" / "checkpoints")
    export.export_model(ModelConfig(path=str(tiny)), ExportConfig(), PromptConfig(), tmp_path / "made")
    (tmp_path / "made").rename(folder / "base" / "model")
    return folder


@pytest.mark.parametrize(
    "place", ["base/model", "base/model/sub", "base", "base/other", "base/checkpoints", ".", "new"]
)
def test_the_work_of_a_run_is_not_overwritten(run: Path, tiny: Path, place: str) -> None:
    """Neither by the model itself nor by another one, though r1rl wrote what is there."""
    before = {f: f.read_bytes() for f in run.rglob("*") if f.is_file()}
    (run.parent / "link").symlink_to(run)
    for model in (run / "base" / "model", tiny):
        for folder in (run / place, run.parent / "link" / place):
            with pytest.raises(ForeignError, match=r"choose (another one|a folder outside of it)"):
                export.export_model(ModelConfig(path=str(model)), ExportConfig(), PromptConfig(), folder)
    assert {f: f.read_bytes() for f in run.rglob("*") if f.is_file()} == before


def test_an_export_is_not_exported_onto_itself(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    export.export_model(ModelConfig(path=str(tiny)), ExportConfig(dtype="float32"), PromptConfig(), out)
    for folder in (out, out / "c", out.parent):
        with pytest.raises(ForeignError, match="is the folder of the model that is exported, or overlaps it"):
            export.export_model(ModelConfig(path=str(out)), ExportConfig(), PromptConfig(), folder)


def test_an_export_stage_writes_in_its_own_run_beside_the_other_stages(stages: Any, tiny: Path, tmp_path: Path) -> None:
    for folder in (tmp_path / "run", tmp_path / "run" / "out", tmp_path / "run" / "next", tmp_path / "other"):
        claim(folder)
    ctx = stages(PLAN.format(model=tiny, prompt="{}"), "out")
    ctx.folder = tmp_path / "run" / "out"
    for place in ("run", "run/out", "run/next", "run/next/model", "other", "other/model"):
        ctx.config.export.folder = str(tmp_path / place)
        with pytest.raises(ForeignError, match="where r1rl keeps its work"):
            export.run(ctx)
    for place in ("run/released", "run/out/model", "run/out/model"):
        ctx.config.export.folder = str(tmp_path / place)
        export.run(ctx)
        assert (tmp_path / place / "config.json").is_file()

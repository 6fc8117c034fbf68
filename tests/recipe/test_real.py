"""The recipe for GSM8K on real problems, each stage for a few steps, with a model that knows nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from r1rl.config import TinyModelConfig, load_config, stages_of
from r1rl.model.load import Policy
from r1rl.recipe.plan import dry_run
from r1rl.recipe.run import run_recipe
from r1rl.stages.pretrain import build_model, build_tokenizer, documents

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "configs" / "gsm8k-qwen2.5-0.5b" / "r1.yaml"
ROWS = ROOT / "tests" / "data" / "gsm8k_rows.jsonl"
SMALL = [
    *("device=cpu", "threads=1", "tracking.console=false", "model.dtype=float32", "data.prompt.max_tokens=2048"),
    *(
        "rollout.prompts_per_step=1",
        "rollout.group_size=2",
        "rollout.max_new_tokens=6",
        "evaluate.samples=1",
        "grpo.steps=2",
    ),
    *(
        "stages.scenarios.grpo.steps=1",
        "stages.r1.grpo.steps=1",
        "grpo.eval_every=0",
        "sft.batch_size=1",
        "sft.epochs=1",
    ),
    *(
        "sample.keep.accuracy=-1",
        "sample.keep.format=-1",
        "sample.filters.language=null",
        "sample.filters.thought=false",
    ),
    *("sample.filters.truncated=false", "sample.filters.max_repetition=null", "reward_model.batch_size=2"),
    *("reward_model.micro_batch_size=1", "stages.rejection.sample.samples=2"),
]


def local(tmp_path: Path) -> list[str]:
    """Overrides that put local rows and a small model in the place of the public ones."""
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(
        "".join(json.dumps({"question": q, "chosen": "Yes, gladly.", "rejected": "No."}) + "\n" for q in "abcd")
    )
    torch.manual_seed(0)
    tokenizer = build_tokenizer(documents("arithmetic", -1), 300)
    size = TinyModelConfig(hidden_size=32, layers=1, heads=2, kv_heads=1, intermediate_size=64, max_positions=4096)
    Policy(build_model(size, tokenizer), tokenizer).save(tmp_path / "model")
    return [
        f"model.path={tmp_path / 'model'}",
        f"output_dir={tmp_path}",
        *(f"data.{split}.gsm8k.path={ROWS}" for split in ("train", "eval")),
        "data.train.gsm8k.limit=2",
        "data.eval.gsm8k.skip=2",
        "stages.cold-data.data.train.gsm8k.limit=2",
        f"stages.helpful.data.train.pairs.path={pairs}",
        f"stages.r1.data.train.general.path={pairs}",
        "stages.r1.data.train.general.skip=0",
    ]


@pytest.mark.slow
def test_every_stage_on_real_problems(tmp_path: Path) -> None:
    config = load_config(RECIPE, [*SMALL, *local(tmp_path)])
    folder = run_recipe(config)
    results = json.loads((folder / "results.json").read_text())
    assert list(results) == list(stages_of(config))
    kept = [json.loads(line) for line in (folder / "rejection" / "data.jsonl").read_text().splitlines()]
    assert kept
    assert all(row["response"].startswith(" <think>") for row in kept)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs").glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_every_configuration_has_a_plan(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dry_run(load_config(path, [f"output_dir={tmp_path}"]), devices=8)
    shown = capsys.readouterr().out
    assert "8 devices" in shown
    assert "not known yet" not in shown
    assert not list(tmp_path.iterdir())

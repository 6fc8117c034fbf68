"""Every kind of stage, asked to end in the middle: what it saved, and that it resumes from there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from r1rl.distributed.interrupt import Interrupt, Interrupted
from r1rl.files import clear
from r1rl.stages import evaluate, pretrain, sample, sft

PRETRAIN = """
stages: { base: { kind: pretrain } }
pretrain:
  { corpus: bilingual, tokens: 3000, batch_tokens: 512,
    model: { hidden_size: 32, layers: 1, heads: 2, kv_heads: 1, intermediate_size: 64 } }
"""
SFT = """
stages: {{ tune: {{ kind: sft, model: {model}, data: {rows} }} }}
data: {{ prompt: {{ template: r1_zero, system: "" }} }}
sft: {{ epochs: 4, batch_size: 4, learning_rate: 1e-3, max_tokens: 96, checkpoint_every: 0 }}
"""
DRAW = """
stages: {{ draw: {{ kind: {kind}, model: {model} }} }}
data:
  train: {{ sums: {{ path: "generated:bilingual", args: {{ split: train, size: 8 }} }} }}
  eval: {{ held: {{ path: "generated:bilingual", args: {{ split: test, size: 8 }} }} }}
  prompt: {{ template: r1_zero, system: "", max_tokens: 64 }}
rewards: {{ format: 1.0 }}
rollout: {{ max_new_tokens: 4 }}
evaluate: {{ samples: 2, reward: format }}
sample:
  {{ samples: 2, keep: {{ format: -1 }}, deduplicate: false,
    filters: {{ truncated: false, thought: false, language: null, max_repetition: null }} }}
"""


class After(Interrupt):
    """As if the signal came after so many looks at the flag."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        super().__init__()

    @property
    def requested(self) -> bool:
        self.looks -= 1
        return self.looks < 0

    @requested.setter
    def requested(self, value: bool) -> None:
        pass


def steps(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, Any]:
    return load_file(folder / "model" / "model.safetensors")


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(bool((a[name] == b[name]).all()) for name in a)


def test_pretraining_goes_on_bit_for_bit(stages: Any) -> None:
    whole, cut = stages(PRETRAIN, "base"), stages(PRETRAIN, "base", "name=cut")
    pretrain.run(whole)
    logged, expected = steps(whole.folder), weights(whole.folder)
    cut.folder = whole.folder.with_name("cut")
    cut.folder.mkdir()
    cut.interrupt = After(2)
    with pytest.raises(Interrupted, match="step 2 is saved"):
        pretrain.run(cut)
    assert steps(cut.folder) == [1, 2]
    cut.interrupt = Interrupt()
    spent = pretrain.run(cut).spent
    assert steps(cut.folder) == logged
    assert same(weights(cut.folder), expected)
    assert (cut.folder / pretrain.UNFINISHED).exists()  # until the run has noted that the stage is done
    assert spent is not None
    clear(spent)
    assert not (cut.folder / pretrain.UNFINISHED).exists()


def test_pretraining_goes_on_after_keys_were_renamed(stages: Any) -> None:
    ctx = stages(PRETRAIN, "base")
    ctx.interrupt = After(2)
    with pytest.raises(Interrupted):
        pretrain.run(ctx)
    file = ctx.folder / pretrain.UNFINISHED
    saved = torch.load(file, weights_only=True)
    assert '"learning_rate"' in saved["of"]
    torch.save(saved | {"of": saved["of"].replace('"learning_rate"', '"lr"')}, file)
    ctx.interrupt = After(1)
    with pytest.raises(Interrupted, match="step 3 is saved"):
        pretrain.run(ctx)


def test_fine_tuning_goes_on_even_without_regular_checkpoints(stages: Any, tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"question": "{i}+1?", "response": "<think>{i}</think>{i + 1}"}}\n' for i in range(12)))
    ctx = stages(SFT.format(model=tiny, rows=rows), "tune")
    sft.run(ctx)
    logged, expected = steps(ctx.folder), weights(ctx.folder)
    ctx.folder = tmp_path / "cut"
    ctx.folder.mkdir()
    ctx.interrupt = After(1)
    with pytest.raises(Interrupted, match=r"update 2 is saved in .*cut/checkpoints"):
        sft.run(ctx)
    assert not (ctx.folder / "model").exists()
    ctx.interrupt = Interrupt()
    spent = sft.run(ctx).spent
    assert steps(ctx.folder) == logged
    assert all((weights(ctx.folder)[name] - value).abs().max() < 1e-5 for name, value in expected.items())
    assert spent is not None
    clear(spent)
    assert not (ctx.folder / "checkpoints").exists()


def test_sampling_keeps_what_was_scored(stages: Any, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "_WAITING", 0)
    ctx = stages(DRAW.format(kind="sample", model=tiny), "draw")
    ctx.interrupt = After(1)
    with pytest.raises(Interrupted, match=r"the samples of \d of 8 problems are saved"):
        sample.run(ctx)
    kept = (ctx.folder / "samples-0.jsonl").read_text().splitlines()
    assert kept
    ctx.interrupt = Interrupt()
    assert sample.run(ctx).metrics["samples"] == 16
    assert (ctx.folder / "samples-0.jsonl").read_text().splitlines()[: len(kept)] == kept


def test_an_evaluation_ends_and_begins_anew(stages: Any, tiny: Path) -> None:
    ctx = stages(DRAW.format(kind="evaluate", model=tiny), "draw")
    ctx.interrupt = After(1)
    with pytest.raises(Interrupted):
        evaluate.run(ctx)
    assert not (ctx.folder / "evaluation.json").exists()
    ctx.interrupt = Interrupt()
    assert evaluate.run(ctx).metrics["held/problems"] == 8

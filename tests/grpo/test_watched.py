"""Looking at a run does not change it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from r1rl import GRPOTrainer
from r1rl.config import RunConfig
from r1rl.tracking import read_jsonl

REWARD = """
def digits(completions, **columns):
    return [min(1.0, sum(c.isdigit() for c in text) / 6) for text in completions]
"""


def trained(folder: Path, model: Path, eval_every: int) -> dict[str, torch.Tensor]:
    source = {"path": "generated:arithmetic", "args": {"split": "train", "size": 40}}
    cfg = RunConfig(
        name="watched",
        device="cpu",
        model={"path": str(model)},
        data={
            "train": {"sums": source},
            "eval": {"dev": {**source, "args": {"split": "test", "size": 3}}},
            "prompt": {"system": ""},
        },
        rewards={"digits": {"function": f"{folder.parent / 'mine.py'}:digits"}, "accuracy": {}},
        rollout={"prompts_per_step": 2, "group_size": 4, "max_new_tokens": 12},
        evaluate={"samples": 2},
        grpo={"steps": 4, "learning_rate": 1e-3, "beta": 0.05, "minibatches": 2, "eval_every": eval_every},
        tracking={"console": False},
    )
    GRPOTrainer(cfg, folder).train()
    return load_file(folder / "model" / "model.safetensors")


def test_weights_are_the_same_bit_for_bit_with_and_without_evaluations(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(REWARD)
    untouched = load_file(tiny_folder / "model.safetensors")
    alone = trained(tmp_path / "alone", tiny_folder, 0)
    watched = trained(tmp_path / "watched", tiny_folder, 1)
    assert all(torch.equal(alone[name], watched[name]) for name in alone)
    assert not all(torch.equal(alone[name], untouched[name]) for name in alone)
    rows = {name: list(read_jsonl(tmp_path / name / "metrics.jsonl")) for name in ("alone", "watched")}
    assert all("eval/dev/pass@1" in row for row in rows["watched"])
    kept = [{k: v for k, v in row.items() if k.startswith("policy") or k == "reward/mean"} for row in rows["alone"]]
    assert kept == [{k: row[k] for k in one} for row, one in zip(rows["watched"], kept, strict=True)]

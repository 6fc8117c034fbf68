"""Six short steps of the RL stage of the demo, and what they logged."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
SETTINGS = [
    "pretrain.tokens=3000", "pretrain.model.hidden_size=32", "pretrain.model.layers=1", "pretrain.batch_tokens=512",
    "grpo.steps=6", "grpo.checkpoint_every=1", "grpo.eval_every=0", "rollout.prompts_per_step=4",
    "rollout.group_size=4", "rollout.max_new_tokens=24", "data.eval.held_out.args.size=4",
    "data.train.sums.args.size=200", "threads=1",
    "evaluate.samples=1", "scoring.workers=1", "rewards.repetition={weight: 1, args: {n: 1}}",
]  # fmt: skip
"""The last gives every step something to learn: a model that has seen 3000 tokens answers nothing right."""


def rows(folder: Path) -> list[dict[str, float]]:
    """The metrics of every step that is logged."""
    file = folder / "tiny-zero" / "zero" / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def steps(folder: Path) -> list[int]:
    return [int(row["step"]) for row in rows(folder)]


def learned(folder: Path) -> bool:
    """Whether every step changed the weights."""
    return all(row["policy/grad_norm"] > 0 for row in rows(folder))

"""A recipe of two stages on this device, a minute long, whose reward has to rise."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from r1rl.config import load_config
from r1rl.doctor.machine.device import on_gpu, working_dtype
from r1rl.doctor.machine.findings import Findings
from r1rl.recipe.run import run_recipe
from r1rl.tracking.jsonl import read_jsonl

CONFIG = """
name: tiny
stages: { base: { kind: pretrain }, zero: { kind: grpo, model: base } }
pretrain:
  corpus: arithmetic
  tokens: 80_000
  batch_tokens: 1024
  learning_rate: 4e-3
  model: { hidden_size: 64, layers: 2, heads: 4, kv_heads: 2, intermediate_size: 192 }
data:
  train: { sums: { path: generated:arithmetic, args: { split: train, size: 2000, seed: 1 } } }
  prompt: { template: r1_zero, system: "", max_tokens: 64 }
rewards: { format: 1.0 }
rollout: { engine: torch, prompts_per_step: 12, group_size: 12, max_new_tokens: 48 }
grpo: { steps: 16, learning_rate: 2e-3, beta: 0.0, checkpoint_every: 0, eval_every: 0 }
tracking: { console: false }
scoring: { workers: 1 }
"""
RISE = 0.15
"""Least rise of the mean reward, 0 to 1, from the first to the last four steps."""


def learning(found: Findings) -> None:
    """Pre-trains a small model on text that is tagged now and then, and rewards tags: sampling, scoring, advantages,
    updates and syncs have to work together for the reward to rise."""
    folder = Path(tempfile.mkdtemp(prefix="recipe-"))
    (folder / "tiny.yaml").write_text(CONFIG, encoding="utf-8")
    chosen = [f"output_dir={folder}", f"device={'cuda' if on_gpu() else 'cpu'}", f"model.dtype={working_dtype()}"]
    run = run_recipe(load_config(folder / "tiny.yaml", chosen))
    rows = list(read_jsonl(run / "zero" / "metrics.jsonl"))
    rewards = [row["reward/mean"] for row in rows]
    first, last = float(np.mean(rewards[:4])), float(np.mean(rewards[-4:]))
    found.note("precision", working_dtype())
    found.note("mean reward of the first steps", first)
    found.note("of the last steps", last)
    found.at_least("rise", last - first, RISE)
    found.summary = f"mean reward {first:.2f} → {last:.2f} in {len(rows)} steps, {working_dtype()}"
    found.note("seconds per step", float(np.median([row["time/step"] for row in rows[1:]])))
    gaps = [row["policy/engine_mismatch"] for row in rows]
    found.at_most("engine mismatch, nats", max(gaps), 1e-4 if working_dtype() == "float32" else 0.1)

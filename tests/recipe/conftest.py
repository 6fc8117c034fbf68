"""A whole recipe, every kind of stage in it, small enough for seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

RECIPE = """
name: mini
output_dir: {folder}
seed: 1
threads: 1
device: cpu
stages:
  base: {{ kind: pretrain }}
  prefer:
    kind: reward_model
    model: base
    data: {{ train: {{ sums: null, pairs: {{ path: generated:bilingual_preferences, args: {{ size: 24 }} }} }} }}
  drawn: {{ kind: sample, model: base }}
  tuned: {{ kind: sft, model: base, data: "${{drawn.data}}" }}
  rl:
    kind: grpo
    model: tuned
    rewards: {{ prefer: {{ function: reward_model, weight: 0.1, args: {{ model: "${{prefer.model}}" }} }} }}
  out: {{ kind: export, model: rl }}
  score: {{ kind: evaluate, model: rl }}
pretrain:
  corpus: bilingual
  tokens: 4000
  batch_tokens: 512
  model: {{ hidden_size: 32, layers: 1, heads: 2, kv_heads: 1, intermediate_size: 64 }}
data:
  train: {{ sums: {{ path: generated:bilingual, args: {{ split: train, size: 10 }} }} }}
  eval: {{ held_out: {{ path: generated:bilingual, args: {{ split: test, size: 4 }} }} }}
  prompt: {{ template: r1_zero, system: "", max_tokens: 64 }}
rewards: {{ odd: {{ function: "{folder}/rewards.py:odd" }}, format: 1.0 }}
rollout: {{ prompts_per_step: 2, group_size: 4, max_new_tokens: 12 }}
grpo: {{ steps: 3, checkpoint_every: 1, beta: 0.0, learning_rate: 1e-3 }}
sample: {{ samples: 2, keep: {{ odd: 0.5 }}, filters: {{ truncated: false, thought: false, language: null }} }}
sft: {{ epochs: 2, batch_size: 2, learning_rate: 1e-3, max_tokens: 96, checkpoint_every: 1 }}
reward_model: {{ batch_size: 8, micro_batch_size: 8, learning_rate: 1e-3, max_tokens: 200, checkpoint_every: 1 }}
evaluate: {{ samples: 2, reward: odd }}
tracking: {{ console: false }}
"""
REWARDS = '''
def odd(completions, **kwargs):
    """An untrained model's texts differ in length: that is all there is to tell them apart."""
    return [float(len(text) % 2) for text in completions]
'''


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The configuration file; its run folder is ``tmp_path/mini``."""
    (tmp_path / "rewards.py").write_text(REWARDS)
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(folder=tmp_path))
    return path

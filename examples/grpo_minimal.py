"""R1-Zero in one file: the algorithm before the framework.

    python examples/grpo_minimal.py

A tiny base model is pre-trained on arithmetic of mixed quality, then learns from two rewards alone, accuracy and
format: about two minutes on two cores. Every piece is the one that `r1rl run` uses; what a real run adds is in
docs/architecture.md (several processes, checkpoints, vLLM, evaluation and tracking).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from r1rl import load_config
from r1rl.config import RunConfig
from r1rl.data.problems import load_problems
from r1rl.data.stream import PromptStream
from r1rl.grpo.batch import Batch, contributes, make_batch, micro_batch, pack, update_size
from r1rl.grpo.losses import GRPO, LossInputs, LossSettings, policy_loss
from r1rl.model.forward import PolicyForward
from r1rl.model.load import Policy, load_policy
from r1rl.recipe.run import run_recipe
from r1rl.rollout.engine import Request
from r1rl.rollout.seeds import completion_seeds
from r1rl.rollout.torch_engine import TorchEngine
from r1rl.scoring import Scorer
from r1rl.types import Group, Problem, SamplingParams, ScoredGroup

CONFIG = """
name: minimal
device: cpu
stages: { base: { kind: pretrain } }
pretrain: { corpus: arithmetic, tokens: 400_000, batch_tokens: 1024, learning_rate: 2e-3 }
data:
  train: { sums: { path: generated:arithmetic, args: { split: train, size: 5000, seed: 1 } } }
  eval: { held_out: { path: generated:arithmetic, args: { split: test, size: 100, seed: 7 } } }
  prompt: { template: r1_zero, system: "", max_tokens: 64 }
rewards: { accuracy: 1.0, format: 1.0 }
"""
PROMPTS, GROUP_SIZE, MAX_NEW_TOKENS, MICRO_BATCH_TOKENS = 12, 12, 96, 4096


def main(folder: Path, steps: int, overrides: Sequence[str] = ()) -> tuple[float, float]:
    """Train for ``steps``; returns the held-out accuracy, 0 to 1, before and after."""
    torch.manual_seed(0)
    policy, config = base_model(folder, overrides)
    train = load_problems(config.data.train, config.data.prompt, policy.tokenizer)
    held_out = load_problems(config.data.eval, config.data.prompt, policy.tokenizer).problems
    prompts = PromptStream(train.by_source, {"sums": 1.0}, seed=0)
    engine = TorchEngine(policy, max_concurrent=256)  # samples from the policy's own weights
    forward = PolicyForward(policy.model, temperature=1.0, chunk=1024)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=4e-4, betas=(0.9, 0.95), weight_decay=0.0)

    with Scorer(config.rewards, config.scoring) as scorer:
        before = accuracy(rollout(engine, scorer, held_out, step=steps))
        for step in range(steps):
            groups = rollout(engine, scorer, prompts.batch(step, PROMPTS), step)  # Problem → Group → scores
            batch = make_batch(groups, scale="group", mask_truncated=False)  # → advantages
            loss = update(forward, optimizer, batch)  # → packed micro-batches → one policy update
            engine.sync(version=step + 1)  # → new weights in the engine
            reward = np.mean([g.rewards.mean() for g in groups])
            print(f"step {step + 1:3d}  reward {reward:.2f}  accuracy {accuracy(groups):.2f}  loss {loss:+.4f}")
        after = accuracy(rollout(engine, scorer, held_out, step=steps))
    policy.save(folder / "policy")
    print(f"held-out accuracy {before:.2f} → {after:.2f}; the policy is in {folder / 'policy'}")
    return before, after


def base_model(folder: Path, overrides: Sequence[str]) -> tuple[Policy, RunConfig]:
    """A model that has read some arithmetic, and what it is trained on. Any causal language model would do."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "minimal.yaml").write_text(CONFIG)
    config = load_config(folder / "minimal.yaml", [f"output_dir={folder}", *overrides])
    run = run_recipe(config)
    model = config.model.model_copy(update={"path": str(run / "base" / "model")})
    return load_policy(model, torch.device("cpu")), config


def rollout(engine: TorchEngine, scorer: Scorer, problems: Sequence[Problem], step: int) -> list[ScoredGroup]:
    """Sample a group of completions for each problem, and score each group while others are still being sampled."""
    params = SamplingParams(MAX_NEW_TOKENS, temperature=1.0)
    requests = [Request(p, completion_seeds(0, step, 0, i, GROUP_SIZE)) for i, p in enumerate(problems)]
    groups: dict[int, Group] = {}
    for index, completions in engine.stream(requests, params):
        groups[index] = Group(problems[index], completions)
        scorer.submit(groups[index])
    return scorer.score([groups[index] for index in sorted(groups)])


def update(forward: PolicyForward, optimizer: torch.optim.Optimizer, batch: Batch) -> float:
    """One optimizer step: gradients are accumulated over packed rows, without padding; returns the loss.

    The old policy is the current one before its only update, so that log π_old is log π, detached.
    """
    settings = LossSettings(loss=GRPO, clip_low=0.2, clip_high=0.2, beta=0.0, max_length=MAX_NEW_TOKENS)
    size = update_size(batch.samples)  # the denominators belong to the whole update, however it is split
    samples = [sample for sample in batch.samples if contributes(sample, beta=0.0)]
    prompts = [sample.prompt_ids.tobytes() for sample in samples]
    total = 0.0
    for row in pack([len(sample) for sample in samples], MICRO_BATCH_TOKENS, prompts):
        chunk = micro_batch([samples[i] for i in row], torch.device("cpu"))
        logps_C, _ = forward(chunk.tokens)
        inputs = LossInputs(
            logps_C, logps_C.detach(), chunk.advantages_C, chunk.keep_C, chunk.sequence_C, chunk.lengths_S
        )
        loss = policy_loss(inputs, settings, size).loss
        loss.backward()
        total += loss.item()
    torch.nn.utils.clip_grad_norm_(forward.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return total


def accuracy(groups: Sequence[ScoredGroup]) -> float:
    """Share of correct completions, 0 to 1."""
    return float(np.mean([g.by_reward["accuracy"].mean() for g in groups]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/grpo-minimal"))
    parser.add_argument("--steps", type=int, default=30)
    options = parser.parse_args()
    main(options.folder, options.steps)

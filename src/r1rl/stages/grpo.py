"""Reinforcement learning with rule-based rewards: R1-Zero from a base model, or R1's RL stages from a tuned one."""

from __future__ import annotations

from r1rl.grpo.trainer import GRPOTrainer
from r1rl.stages.base import StageContext, StageResult


def run(ctx: StageContext) -> StageResult:
    """Train ``model.path`` and leave the policy in STAGE/model."""
    trainer = GRPOTrainer(
        ctx.config, ctx.folder, accelerator=ctx.accelerator, console=ctx.console, interrupt=ctx.interrupt
    )
    last = trainer.train()
    kept = ("reward/mean", "reward/accuracy/mean", "rollout/length_mean", "time/step")
    return StageResult(model=ctx.folder / "model", metrics={name: last[name] for name in kept if name in last})

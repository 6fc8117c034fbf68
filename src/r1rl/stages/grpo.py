"""Reinforcement learning with rule-based rewards: R1-Zero from a base model, or R1's RL stages from a tuned one."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from r1rl.config import HubConfig
from r1rl.grpo.trainer import GRPOTrainer
from r1rl.stages.base import StageContext, StageResult
from r1rl.tracking.console import Console


def run(ctx: StageContext) -> StageResult:
    """Train ``model.path`` and leave the policy in STAGE/model."""
    trainer = GRPOTrainer(
        ctx.config, ctx.folder, accelerator=ctx.accelerator, console=ctx.console, interrupt=ctx.interrupt
    )
    last = trainer.train()
    if ctx.config.hub is not None and ctx.accelerator.is_main_process:
        push(ctx.folder / "model", ctx.config.hub, ctx.console)
    kept = ("reward/mean", "reward/accuracy/mean", "rollout/length_mean", "time/step")
    return StageResult(model=ctx.folder / "model", metrics={name: last[name] for name in kept if name in last})


def push(folder: Path, hub: HubConfig, console: Console) -> None:
    """Upload the saved model. A run that trained for days does not fail on its last line: the model stays in its
    folder, and what went wrong is said."""
    api = HfApi()
    try:
        api.create_repo(hub.repo, private=hub.private, exist_ok=True)
        api.upload_folder(repo_id=hub.repo, folder_path=folder)
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        console.say(f"warning: could not push to {hub.repo} ({reason}); the model is in {folder}")
    else:
        console.say(f"pushed to {hub.repo}")

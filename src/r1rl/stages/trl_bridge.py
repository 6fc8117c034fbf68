"""What the stages on TRL's trainers share: their arguments, their checkpoints, and where their figures go."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import (
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from r1rl.config import RewardModelConfig, SFTConfig
from r1rl.distributed.interrupt import Interrupted
from r1rl.errors import ConfigError
from r1rl.files import claim, discard, draft_of, is_own, mark, publishing
from r1rl.stages.base import StageContext, asked_to_end
from r1rl.tracking import Tracker, build_tracker
from r1rl.tracking.console import Progress
from r1rl.tracking.jsonl import figures

CHECKPOINTS = "checkpoints"
"""In the stage's folder; an interrupted stage resumes from it."""
_NAME = re.compile(r"checkpoint-[0-9]+")


def accumulation(ctx: StageContext, settings: SFTConfig | RewardModelConfig) -> int:
    """Micro-batches that a process accumulates per update.

    Raises: ConfigError where the batch does not divide into the processes' micro-batches.
    """
    together: int = settings.micro_batch_size * ctx.accelerator.num_processes
    if settings.batch_size % together:
        raise ConfigError(
            f"stage {ctx.name}: batch_size {settings.batch_size} does not divide into {ctx.accelerator.num_processes} "
            f"processes × micro_batch_size {settings.micro_batch_size}; change one of them"
        )
    return settings.batch_size // together


def common_arguments(ctx: StageContext, settings: SFTConfig | RewardModelConfig) -> dict[str, Any]:
    """Keyword arguments of every TRL trainer's configuration."""
    model, every = ctx.config.model, settings.checkpoint_every
    return {
        "output_dir": str(ctx.folder / CHECKPOINTS),
        "seed": ctx.config.seed,
        "data_seed": ctx.config.seed,
        "use_cpu": ctx.accelerator.device.type == "cpu",
        "bf16": model.dtype == "bfloat16",
        "gradient_checkpointing": model.gradient_checkpointing,
        "per_device_train_batch_size": settings.micro_batch_size,
        "per_device_eval_batch_size": settings.micro_batch_size,
        "gradient_accumulation_steps": accumulation(ctx, settings),
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "warmup_steps": settings.warmup_ratio,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "adam_beta2": 0.95,
        "logging_steps": 1,
        "save_strategy": "steps" if every else "no",
        "save_steps": every or 500,
        "save_total_limit": None,  # the bridge drops the earlier ones, once the new one is marked
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": ctx.accelerator.device.type == "cuda",
        "dataset_num_proc": None,
    }


def adapters(ctx: StageContext, task: Literal["CAUSAL_LM", "SEQ_CLS"]) -> dict[str, Any]:
    """Keyword arguments by which a TRL trainer adds the adapters of ``model.lora``; a fresh head is trained in full."""
    lora = ctx.config.model.lora
    if lora is None:
        return {}
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise ConfigError(f"model.lora needs peft ({error}); run: pip install 'r1rl[lora]'") from error
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type=task,
    )
    return {"peft_config": config}


class WarmFirstUpdate(Trainer):
    """Warm-up from 1/n of the peak on, as in grpo stages: several of transformers' schedules begin at 0, so that the
    first update would learn nothing."""

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        if self.lr_scheduler is None:
            theirs: Any = super().create_scheduler(num_training_steps, optimizer)
            warmup = self.args.get_warmup_steps(num_training_steps)
            share = partial(_share, theirs.lr_lambdas[0], warmup)
            scheduled: Any = self.optimizer if optimizer is None else optimizer
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(scheduled, share)
        return self.lr_scheduler


def _share(after: Callable[[int], float], warmup: int, update: int) -> float:
    """Of the peak, for the update with this number (from 0)."""
    return (update + 1) / warmup if update < warmup else after(update)


def newest_whole(folder: Path) -> Path | None:
    """The newest complete checkpoint; an incomplete one is overwritten when its step is reached again."""
    whole = _whole(folder)
    return whole[-1] if whole else None


def _whole(folder: Path) -> list[Path]:
    """The checkpoints that r1rl marked, in order of steps."""
    found = (path for path in folder.glob("checkpoint-*") if _NAME.fullmatch(path.name) and is_own(path))
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def step_of(checkpoint: Path | None) -> int | None:
    """Updates made before a trainer's checkpoint."""
    if checkpoint is None:
        return None
    return int(json.loads((checkpoint / "trainer_state.json").read_text())["global_step"])


class Bridge(TrainerCallback):
    """Carries a trainer's figures to the run's trackers and console, and marks its complete checkpoints."""

    def __init__(
        self, ctx: StageContext, names: Mapping[str, str], progress: Progress, resume_step: int | None
    ) -> None:
        """``names``: the trainer's name of each figure that is kept, and ours."""
        self.names, self.progress = names, progress
        self.tracker: Tracker = build_tracker(
            ctx.config.tracking,
            ctx.folder,
            f"{ctx.config.name}/{ctx.name}",
            ctx.config.model_dump(mode="json"),
            resume_step=resume_step,
            is_main=ctx.accelerator.is_main_process,
        )
        self.last: dict[str, float] = {}
        for earlier in figures(ctx.folder / "metrics.jsonl", resume_step or 0):
            self.last |= {name: value for name, value in earlier.items() if name in names.values()}
        self.stopped: int | None = None
        """Updates made when the stage was asked to end; None if it was not."""
        self._ctx = ctx

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.progress.total = state.max_steps

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        metrics = {ours: float(logs[theirs]) for theirs, ours in self.names.items() if logs and theirs in logs}
        if metrics and state.is_world_process_zero:
            self.last |= metrics
            self.tracker.log(state.global_step, metrics)
        self.progress.update(done=state.global_step, **{k.rpartition("/")[2]: v for k, v in metrics.items()})

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step < state.max_steps and asked_to_end(self._ctx):
            self.stopped = state.global_step
            control.should_save = control.should_training_stop = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero and args.output_dir:
            folder = Path(args.output_dir)
            mark(folder / f"checkpoint-{state.global_step}")  # one without a mark was cut short by a kill
            for earlier in _whole(folder)[:-1]:
                discard(earlier)


def fit(
    ctx: StageContext,
    title: str,
    names: Mapping[str, str],
    tokenizer: PreTrainedTokenizerBase,
    build: Callable[[list[TrainerCallback]], Trainer],
) -> dict[str, float]:
    """Train, resuming from the newest complete checkpoint, and write STAGE/model.

    ``build`` makes the trainer with these callbacks; one with evaluation data is evaluated at the end.

    Raises:
        Interrupted: the stage was asked to end, and left a checkpoint.

    Returns:
        The last value of each figure, keyed by r1rl's name without its prefix.
    """
    if ctx.accelerator.is_main_process:
        claim(ctx.folder / CHECKPOINTS)
    resume = newest_whole(ctx.folder / CHECKPOINTS)
    with ctx.console.progress(f"{ctx.name}: {title}", unit="update") as progress:
        bridge = Bridge(ctx, names, progress, step_of(resume))
        trainer = build([bridge])
        trainer.remove_callback(PrinterCallback)  # the bridge writes to the console
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        if trainer.eval_dataset is not None and bridge.stopped is None:
            trainer.evaluate()
        bridge.tracker.close()
    if bridge.stopped is not None:
        raise Interrupted(f"update {bridge.stopped} is saved in {ctx.folder / 'checkpoints'}")
    save_model(trainer, tokenizer, ctx)
    return {name.rpartition("/")[2]: value for name, value in bridge.last.items()}


def save_model(trainer: Any, tokenizer: PreTrainedTokenizerBase, ctx: StageContext) -> None:
    """Write STAGE/model, adapters merged. Every rank takes part in the gathering."""
    final, is_main = ctx.folder / "model", ctx.accelerator.is_main_process
    model = trainer.accelerator.unwrap_model(trainer.model)
    with publishing(final) if is_main else contextlib.nullcontext(draft_of(final)) as draft:
        if hasattr(model, "merge_and_unload"):
            model = model.merge_and_unload()
            if is_main:
                model.save_pretrained(draft)
        else:
            trainer.save_model(str(draft))
        if is_main:
            tokenizer.save_pretrained(draft)
            (draft / "training_args.bin").unlink(missing_ok=True)
    ctx.accelerator.wait_for_everyone()

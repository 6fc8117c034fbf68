"""Stages that learn nothing and remember what they were asked: a whole recipe in milliseconds."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from r1rl.errors import R1Error
from r1rl.files import claim, mark
from r1rl.fingerprint.identity import Identity
from r1rl.fingerprint.mark import take
from r1rl.stages.base import StageContext, StageResult

LENGTHS = {"grpo": "steps", "sft": "epochs", "reward_model": "epochs", "sample": "samples"}


@dataclass
class Fakes:
    """Takes the place of ``recipe.run._call``."""

    stop_at: dict[str, int] = field(default_factory=dict)
    """Stages that fail once they have saved that many steps."""
    ran: dict[str, int] = field(default_factory=dict)
    """Stages that ran, and the step that each began after."""
    chance: str = ""
    """Goes into every output: another value is another machine on which nothing repeats."""

    def call(self, kind: str, ctx: StageContext) -> StageResult:
        identity = Identity.of(kind, ctx.config)
        if kind == "grpo":
            take(ctx.folder, identity)  # as the trainer does: what the recipe noted must be the same
        saved, drawn = ctx.folder / "checkpoints", ctx.folder / "samples-0.jsonl"
        steps = [int(file.name.rpartition("-")[2]) for file in saved.glob("*-*")]
        lines = drawn.read_text().splitlines() if drawn.exists() else []
        began = self.ran[ctx.name] = len(lines) if kind == "sample" else max(steps, default=0)
        length = int(getattr(getattr(ctx.config, kind), LENGTHS.get(kind, ""), 1))
        name = "step-{}" if kind == "grpo" else "checkpoint-{}"
        for step in range(began, length + 1):
            if kind == "sample" and step > began:
                drawn.write_text("{}\n" * step)
            elif kind in LENGTHS and step > began:
                claim(saved)
                (saved / name.format(step)).mkdir()
                mark(saved / name.format(step))
            if self.stop_at.get(ctx.name) == step:
                raise R1Error(f"{ctx.name} stopped")
        made = f"{identity.fingerprint} {max(began, length)} {self.chance}"
        result = self._outputs(kind, ctx, made)
        if kind in ("sft", "reward_model"):
            result.spent = saved
        return result

    def _outputs(self, kind: str, ctx: StageContext, made: str) -> StageResult:
        tokens = {"tokens": 1, "generated_tokens": 1}
        if kind == "evaluate":
            (ctx.folder / "evaluation.json").write_text("{}")
            return StageResult(reports={"evaluation": ctx.folder / "evaluation.json"})
        if kind == "sample":
            sifted = f"{made} {ctx.config.sample.model_dump()}"
            return StageResult(data=_write(ctx.folder / "data.jsonl", sifted), metrics=tokens)
        _write(ctx.folder / "model" / "config.json", made)
        return StageResult(model=ctx.folder / "model", metrics=tokens)


def _write(path: Path, made: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"question": "q", "response": "r", "made": made}) + "\n")
    return path

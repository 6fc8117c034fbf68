"""Measures a model on every source of data.eval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from r1rl.config.applied import applying
from r1rl.data.problems import load_problems
from r1rl.errors import ConfigError
from r1rl.evaluation.measure import check_lengths, evaluate, mean_applied
from r1rl.files import write_json
from r1rl.model.load import load_policy
from r1rl.records import shown_row
from r1rl.rollout.build import build_engine
from r1rl.scoring import Scorer
from r1rl.stages.base import StageContext, StageResult
from r1rl.types import ScoredGroup


def run(ctx: StageContext) -> StageResult:
    """Evaluate ``model.path`` on every source of ``data.eval``; the figures go to results.json."""
    cfg = ctx.config
    if not cfg.data.eval:
        raise ConfigError(f"stage {ctx.name} evaluates, but data.eval has no source: add one")
    if cfg.evaluate.reward not in cfg.rewards:
        known = ", ".join(cfg.rewards) or "none"
        raise ConfigError(
            f"evaluate.reward: {cfg.evaluate.reward!r} is not one of the rewards of stage {ctx.name} ({known})"
        )
    policy = load_policy(cfg.model, ctx.accelerator.device, adapters_seed=None)
    sets = load_problems(cfg.data.eval, cfg.data.prompt, policy.tokenizer)
    check_lengths(sets.problems, cfg, policy.model)
    rollout = cfg.rollout.model_copy(update={"max_concurrent": cfg.evaluate.batch_size})
    engine = build_engine(cfg.model_copy(update={"rollout": rollout}), policy)
    metrics: dict[str, float] = {}
    saved: dict[str, Any] = {}
    try:
        with Scorer(cfg.rewards, cfg.scoring, applies=applying(cfg.rewards, cfg.data.eval)) as scorer:
            for name, problems in sets.by_source.items():
                result = evaluate(
                    engine, scorer, problems, cfg, ctx.accelerator, ctx.console, f"{ctx.name}: {name}", ctx.interrupt
                )
                metrics |= {f"{name}/{key}": value for key, value in result.metrics.items()}
                saved[name] = {
                    "problems": [p.id for p in problems],
                    "correct": None if result.correct_NK is None else [mean_applied(row) for row in result.correct_NK],
                    "rewards": _by_problem(result.groups),
                    "samples": [shown_row(group) for group in result.groups[: cfg.evaluate.show]],
                }
    finally:
        engine.close()
    if ctx.accelerator.is_main_process:
        write_json(ctx.folder / "evaluation.json", saved, indent=None)
    return StageResult(metrics=metrics, reports={"evaluation": ctx.folder / "evaluation.json"})


def _by_problem(groups: Sequence[ScoredGroup]) -> dict[str, list[float | None]]:
    """Each reward's mean over the samples of every problem; None where it applied to none of them."""
    names = dict.fromkeys(name for g in groups for name in g.by_reward)
    return {name: [mean_applied(g.by_reward.get(name)) for g in groups] for name in names}

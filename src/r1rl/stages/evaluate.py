"""Measure a policy on problems it was not trained on: pass@1 over k samples, pass@k, majority vote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object

from r1rl.config import RunConfig
from r1rl.config.applied import applying
from r1rl.data.problems import load_problems
from r1rl.errors import ConfigError
from r1rl.files import write_json
from r1rl.grpo.interrupt import Interrupt, Interrupted
from r1rl.grpo.limits import check_prompts
from r1rl.model.load import load_policy
from r1rl.rollout.build import build_engine
from r1rl.rollout.collect import completion_seeds
from r1rl.rollout.engine import Engine, Request
from r1rl.scoring import Scorer
from r1rl.stages.base import StageContext, StageResult
from r1rl.stages.metrics import majority_vote, pass_at_1, pass_at_k
from r1rl.tracking.console import Console
from r1rl.types import Completion, Group, Problem, SamplingParams, ScoredGroup
from r1rl.verify import extract_answer

_SEED_STEP = 2**31 - 1
"""Place of evaluation in the random streams, which no training step reaches."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """``metrics`` by name; ``correct_NK`` 1.0 or 0.0 for each problem and sample, NaN where ``evaluate.reward`` gave no
    value; None where it applies to nothing."""

    metrics: dict[str, float]
    correct_NK: np.ndarray | None
    groups: list[ScoredGroup]


def run(ctx: StageContext) -> StageResult:
    """Evaluate ``model.path`` on every source of ``data.eval``; the figures go to results.json."""
    cfg = ctx.config
    if not cfg.data.eval:
        raise ConfigError(f"stage {ctx.name} evaluates, but data.eval has no source: add one")
    if cfg.evaluate.reward not in cfg.rewards:
        known = ", ".join(cfg.rewards) or "none"
        raise ConfigError(
            f"evaluate.reward: {cfg.evaluate.reward!r} is none of the rewards of stage {ctx.name} ({known})"
        )
    policy = load_policy(cfg.model, ctx.accelerator.device, adapters_seed=None)
    sets = load_problems(cfg.data.eval, cfg.data.prompt, policy.tokenizer)
    check_lengths(sets.problems, cfg, policy.model)
    rollout = cfg.rollout.model_copy(update={"max_concurrent": cfg.evaluate.batch})
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
                    "correct": None if result.correct_NK is None else [_mean(row) for row in result.correct_NK],
                    "rewards": _by_problem(result.groups),
                    "samples": _shown(result.groups, cfg.evaluate.show),
                }
    finally:
        engine.close()
    if ctx.accelerator.is_main_process:
        write_json(ctx.folder / "evaluation.json", saved, indent=None)
    return StageResult(metrics=metrics, reports={"evaluation": ctx.folder / "evaluation.json"})


def check_lengths(problems: Sequence[Problem], cfg: RunConfig, model: Any) -> None:
    """Refuse an evaluation whose samples would be longer than the model's positions.

    Raises: ConfigError, see :func:`r1rl.grpo.limits.check_length`.
    """
    own = cfg.evaluate.max_new_tokens
    key = "evaluate.max_new_tokens" if own else "rollout.max_new_tokens"
    check_prompts(problems, own or cfg.rollout.max_new_tokens, model, key)


def evaluate(
    engine: Engine,
    scorer: Scorer,
    problems: Sequence[Problem],
    cfg: RunConfig,
    accelerator: Accelerator,
    console: Console,
    title: str,
    interrupt: Interrupt | None = None,
    step: int = 0,
) -> Evaluation:
    """Sample ``evaluate.samples`` completions a problem and score them with the run's own reward functions.

    Every process takes its share of the problems; all return the same figures. ``step`` is the number of finished
    training steps, which reward functions read as ``trainer_state.global_step``.

    Raises:
        Interrupted: ``interrupt`` was set; nothing is kept.
    """
    settings = cfg.evaluate
    params = SamplingParams(
        settings.max_new_tokens or cfg.rollout.max_new_tokens,
        settings.temperature,
        settings.top_p,
        settings.top_k,
        tuple(cfg.rollout.stop),
    )
    rank, ranks = accelerator.process_index, accelerator.num_processes
    mine = [(i, p) for i, p in enumerate(problems) if i % ranks == rank]
    requests = [Request(p, completion_seeds(cfg.seed, _SEED_STEP, 0, i, settings.samples)) for i, p in mine]
    groups: list[Group | None] = [None] * len(requests)
    with console.progress(title, total=len(requests), unit="problem") as progress:

        def finished(index: int, completions: list[Completion]) -> None:
            if interrupt is not None:
                interrupt.check()
            group = Group(requests[index].problem, completions)
            groups[index] = group
            scorer.submit(group)
            progress.update(done=sum(g is not None for g in groups))

        indexed: list[tuple[int, ScoredGroup] | None]
        try:
            engine.generate(requests, params, finished)
        except Interrupted:
            indexed = [None]  # the others may be waiting in the gathering already: tell them there
        else:
            scored = scorer.score([g for g in groups if g is not None], {"global_step": step})
            indexed = list(zip([i for i, _ in mine], scored, strict=True))
    scorer.drain()
    everything = gather_object(indexed) if ranks > 1 else indexed
    whole = [pair for pair in everything if pair is not None]
    if len(whole) < len(everything):
        raise Interrupted("an evaluation begins anew")
    return measure([g for _, g in sorted(whole, key=lambda pair: pair[0])], settings.reward)


def measure(groups: list[ScoredGroup], reward: str) -> Evaluation:
    """Figures of scored groups; a completion is correct where ``reward`` gave it more than 0.5.

    A completion for which it gave no value (None) is neither right nor wrong and is left out; a source to which it
    does not apply at all has no right answers, and so no pass@1.
    """
    correct_NK = _verdicts(groups, reward)
    completions = [c for g in groups for c in g.group.completions]
    metrics = (_solved(groups, correct_NK) if correct_NK is not None else {}) | {
        "length": float(np.mean([len(c) for c in completions])),
        "truncated": float(np.mean([c.finish == "length" for c in completions])),
        "problems": float(len(groups)),
    }
    for name in groups[0].by_reward:
        mean = _mean(np.concatenate([g.by_reward[name] for g in groups]))
        if name != reward and mean is not None:
            metrics[name] = mean
    return Evaluation(metrics, correct_NK, groups)


def _verdicts(groups: list[ScoredGroup], reward: str) -> np.ndarray | None:
    """[N, K] 1.0 where ``reward`` is above 0.5, NaN where it did not apply; None where it never did."""
    if reward not in groups[0].by_reward:
        return None
    values_NK = np.stack([g.by_reward[reward] for g in groups])
    if np.isnan(values_NK).all():
        return None
    return np.where(np.isnan(values_NK), np.nan, values_NK > 0.5)


def _solved(groups: list[ScoredGroup], correct_NK: np.ndarray) -> dict[str, float]:
    answers = [[extract_answer(g.group.problem.prefill + c.text) for c in g.group.completions] for g in groups]
    k = correct_NK.shape[1]
    figures = {
        "pass@1": pass_at_1(correct_NK),
        f"pass@{k}": pass_at_k(correct_NK, k),
        f"maj@{k}": majority_vote(answers, correct_NK),
        "unjudged": float(np.isnan(correct_NK).mean()) or None,
    }
    return {name: value for name, value in figures.items() if value is not None}


def _by_problem(groups: Sequence[ScoredGroup]) -> dict[str, list[float | None]]:
    """Each reward's mean over the samples of every problem; None where it applied to none of them."""
    names = dict.fromkeys(name for g in groups for name in g.by_reward)
    return {name: [_mean(g.by_reward.get(name)) for g in groups] for name in names}


def _mean(values: np.ndarray | None) -> float | None:
    applied = values[~np.isnan(values)] if values is not None else np.zeros(0)
    return float(applied.mean()) if applied.size else None


def _shown(groups: Sequence[ScoredGroup], count: int) -> list[dict[str, Any]]:
    return [
        {
            "question": g.group.problem.columns.get("question"),
            "answer": g.group.problem.columns.get("answer"),
            "completion": g.group.problem.prefill + g.group.completions[0].text,
            "reward": _mean(g.rewards[:1]),
        }
        for g in groups[:count]
    ]

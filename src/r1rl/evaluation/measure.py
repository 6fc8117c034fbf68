"""Measure a policy on problems it was not trained on: pass@1 over k samples, pass@k, majority vote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
from accelerate import Accelerator

from r1rl.config import RunConfig
from r1rl.distributed.collectives import gather
from r1rl.distributed.interrupt import Interrupt, Interrupted
from r1rl.evaluation.metrics import majority_vote, pass_at_1, pass_at_k
from r1rl.model.lengths import check_prompts
from r1rl.rollout.engine import Engine, Request
from r1rl.rollout.seeds import completion_seeds
from r1rl.scoring import Scorer
from r1rl.tracking.console import Console
from r1rl.types import Group, Problem, SamplingParams, ScoredGroup
from r1rl.verify import extract_answer

_SEED_STEP = 2**31 - 1
"""Step number from which evaluation derives its seeds; no training step reaches it."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Result of an evaluation. ``metrics`` by name; ``correct_NK`` is 1.0 or 0.0 for each problem and sample, NaN where
    ``evaluate.reward`` gave no value, and None if it gave none at all."""

    metrics: dict[str, float]
    correct_NK: np.ndarray | None
    groups: list[ScoredGroup]


def check_lengths(problems: Sequence[Problem], cfg: RunConfig, model: Any) -> None:
    """Refuse an evaluation whose samples could exceed the model's maximum number of positions.

    Raises: ConfigError, see :func:`r1rl.model.lengths.check_length`.
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
    """Sample ``evaluate.samples`` completions per problem and score them with the run's own reward functions.

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
    groups: dict[int, Group] = {}
    indexed: list[tuple[int, ScoredGroup] | None]
    with console.progress(title, total=len(requests), unit="problem") as progress:
        try:
            for index, completions in engine.stream(requests, params):
                if interrupt is not None:
                    interrupt.check()
                groups[index] = Group(requests[index].problem, completions)
                scorer.submit(groups[index])
                progress.update(done=len(groups))
        except Interrupted:
            indexed = [None]  # the other ranks may already wait in gather(): tell them there
        else:
            scored = scorer.score([groups[index] for index in range(len(requests))], {"global_step": step})
            indexed = list(zip([i for i, _ in mine], scored, strict=True))
    scorer.drain()
    everything = gather(indexed)
    whole = [pair for pair in everything if pair is not None]
    if len(whole) < len(everything):
        raise Interrupted("the evaluation starts again")
    return measure([g for _, g in sorted(whole, key=itemgetter(0))], settings.reward)


def measure(groups: list[ScoredGroup], reward: str) -> Evaluation:
    """Metrics of scored groups; a completion is correct if ``reward`` gave it more than 0.5.

    A completion for which it gave no value (None) is neither correct nor incorrect and is left out. If it gave no value
    for any completion, pass@1 and the other figures that need verdicts are absent.
    """
    correct_NK = _verdicts(groups, reward)
    completions = [c for g in groups for c in g.group.completions]
    metrics = (_solved(groups, correct_NK) if correct_NK is not None else {}) | {
        "length": float(np.mean([len(c) for c in completions])),
        "truncated": float(np.mean([c.finish == "length" for c in completions])),
        "problems": float(len(groups)),
    }
    for name in groups[0].by_reward:
        mean = mean_applied(np.concatenate([g.by_reward[name] for g in groups]))
        if name != reward and mean is not None:
            metrics[name] = mean
    return Evaluation(metrics, correct_NK, groups)


def _verdicts(groups: list[ScoredGroup], reward: str) -> np.ndarray | None:
    """[N, K] 1.0 where ``reward`` is above 0.5, NaN where it did not apply; None if it never applied."""
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


def mean_applied(values: np.ndarray | None) -> float | None:
    """Mean of the values that are not NaN; None if there are none."""
    applied = values[~np.isnan(values)] if values is not None else np.zeros(0)
    return float(applied.mean()) if applied.size else None

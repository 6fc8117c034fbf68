"""Rejection sampling: several samples per problem, verified, filtered, and written as training data with provenance.

STAGE/data.jsonl holds what was kept: ``question``, ``response``, ``answer``, every reward's verdict under ``rewards``,
and the model, problem and sample it came from. STAGE/dropped.jsonl holds the rest with the reason under ``dropped``,
STAGE/filters.json what each filter removed.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter, deque
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from r1rl.config.applied import applying
from r1rl.data.overlap import ensure_disjoint, normalized_question, read_questions
from r1rl.data.problems import load_problems
from r1rl.data.rejection import Sieve, mixed_rows
from r1rl.distributed.collectives import from_main
from r1rl.distributed.interrupt import Interrupted
from r1rl.errors import DataError
from r1rl.files import json_line, replacing, write_json
from r1rl.fingerprint.content import content
from r1rl.model.lengths import check_prompts
from r1rl.model.load import Policy, load_policy
from r1rl.records import Row, sampled_rows
from r1rl.rollout.build import build_engine
from r1rl.rollout.engine import Request
from r1rl.rollout.seeds import completion_seeds
from r1rl.scoring import Scorer
from r1rl.stages.base import StageContext, StageResult, asked_to_end
from r1rl.stages.rewrite import rewrite
from r1rl.stages.sample_log import SampleLog
from r1rl.tracking.console import Progress
from r1rl.types import Group, Problem, SamplingParams
from r1rl_rewards.language import share
from r1rl_rewards.texts import thought_of

log = logging.getLogger(__name__)

_SEED_STEP = 2**31 - 3
"""Place of rejection sampling in the random streams, which no training step reaches."""
_WAITING = 16
"""Groups that may wait for their scores before sampling waits for them."""


def run(ctx: StageContext) -> StageResult:
    """Sample ``model.path`` on ``data.train`` and sift the samples; a killed run resumes where it stopped."""
    cfg = ctx.config
    policy = load_policy(cfg.model, ctx.accelerator.device, adapters_seed=None)
    held_out = load_problems(cfg.data.eval, cfg.data.prompt, policy.tokenizer)
    train = load_problems(cfg.data.train, cfg.data.prompt, policy.tokenizer)
    problems = ensure_disjoint(train, held_out, cfg.data.on_overlap, read_questions(cfg.data.held_out)).problems
    own = cfg.sample.max_new_tokens
    key = "sample.max_new_tokens" if own else "rollout.max_new_tokens"
    check_prompts(problems, own or cfg.rollout.max_new_tokens, policy.model, key)
    samples = SampleLog(ctx.folder, ctx.accelerator.process_index)
    draw(ctx, policy, problems, samples)
    ctx.accelerator.wait_for_everyone()
    metrics: dict[str, Any] = {}
    if ctx.accelerator.is_main_process:
        drawn = samples.read()
        rows = [row for problem in problems for row in drawn[problem.id]]
        evaluated = [normalized_question(problem) for problem in held_out.problems]
        metrics = sift(ctx, rows, evaluated, policy.tokenizer)
    metrics = from_main(metrics)
    reports = {"filters": ctx.folder / "filters.json", "dropped": ctx.folder / "dropped.jsonl"}
    return StageResult(data=ctx.folder / "data.jsonl", metrics=metrics, reports=reports)


def draw(ctx: StageContext, policy: Policy, problems: list[Problem], samples: SampleLog) -> None:
    """Sample and score what is not on disk yet; a problem's samples are on disk as soon as they are scored.

    Raises: Interrupted where any process was asked to end.
    """
    cfg, settings = ctx.config, ctx.config.sample
    limit = settings.max_new_tokens or cfg.rollout.max_new_tokens
    params = SamplingParams(limit, settings.temperature, settings.top_p, stop=tuple(cfg.rollout.stop))
    done = samples.read()
    ctx.accelerator.wait_for_everyone()  # every process has read the log before any process adds to it
    rank, ranks = ctx.accelerator.process_index, ctx.accelerator.num_processes
    remaining = [
        Request(problem, completion_seeds(cfg.seed, _SEED_STEP, 0, index, settings.samples))
        for index, problem in enumerate(problems)
        if problem.id not in done
    ]
    if done:
        log.info(f"{ctx.name}: {len(problems) - len(remaining)} of {len(problems)} problems were sampled before")
    if not remaining:
        samples.close()
        return
    requests = remaining[rank::ranks]
    applies = applying(cfg.rewards, cfg.data.train)
    engine = build_engine(cfg, policy)
    try:
        with (
            Scorer(cfg.rewards, cfg.scoring, applies=applies) as scorer,
            ctx.console.progress(f"{ctx.name}: sampling", total=len(requests), unit="problem") as progress,
        ):
            scored = _Scored(samples, scorer, progress)
            with contextlib.suppress(Interrupted):  # the other processes are notified below
                for index, completions in engine.stream(requests, params):
                    scored.submit(Group(requests[index].problem, completions))
                    scored.write(waiting=_WAITING)
                    ctx.interrupt.check()
            scored.write(waiting=0)
    finally:
        engine.close()
        samples.close()
    if asked_to_end(ctx):
        raise Interrupted(f"the samples of {len(samples.read())} of {len(problems)} problems are saved in {ctx.folder}")


class _Scored:
    """Groups that wait for their scores and then go to the log, in the order in which they finished."""

    def __init__(self, samples: SampleLog, scorer: Scorer, progress: Progress) -> None:
        self.samples, self.scorer, self.progress = samples, scorer, progress
        self._waiting: deque[Group] = deque()

    def submit(self, group: Group) -> None:
        self._waiting.append(group)
        self.scorer.submit(group)

    def write(self, waiting: int) -> None:
        """Wait for the scores of all but the last ``waiting`` groups, and log these groups."""
        while len(self._waiting) > waiting:
            group = self._waiting.popleft()
            self.samples.append(group.problem.id, sampled_rows(self.scorer.score([group])[0]))
            self.progress.update(done=self.progress.done + 1)


def sift(
    ctx: StageContext, rows: list[Row], evaluated: list[str], tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any]:
    """Filter the samples and write them; returns the figures of the stage.

    Raises: DataError where nothing is left.
    """
    cfg, settings = ctx.config, ctx.config.sample
    sieve = Sieve(rows)
    sieve.verify(settings.keep)
    sieve.apply_rules(settings, _share)
    if settings.rewrite is not None:
        rewrite(sieve, cfg, ctx.console, tokenizer)
        sieve.verify(settings.keep)
        sieve.apply_rules(settings, _share)
    sieve.rows += mixed_rows(settings)
    if settings.deduplicate:
        sieve.deduplicate()
    if settings.decontaminate:
        sieve.decontaminate(evaluated, settings.decontaminate)
    sieve.balance(settings.per_problem, settings.limits)
    ctx.console.table(f"{ctx.name}: {len(rows)} samples", ["filter", "removed", "left"], sieve.table)
    if not sieve.rows:
        raise DataError(
            f"stage {ctx.name}: none of {len(rows)} samples is left; loosen the filters that removed most "
            f"({', '.join(f'{name} {count}' for name, count, _ in sieve.table if count)}), or draw more samples"
        )
    origin = {"model": cfg.model.path, "model_hash": _model_hash(cfg.model.path), "revision": cfg.model.revision}
    _write_lines(ctx.folder / "dropped.jsonl", [row | {"origin": origin} for row in sieve.dropped])
    _write_lines(ctx.folder / "data.jsonl", [row | {"origin": origin} for row in sieve.rows])
    write_json(ctx.folder / "filters.json", sieve.table)
    return {
        "samples": len(rows),
        "generated_tokens": sum(row["tokens"] for row in rows),
        "kept": len(sieve.rows),
        "problems": len({row["problem"] for row in sieve.rows}),
        **{f"dropped_{name}": count for name, count in Counter(row["dropped"] for row in sieve.dropped).items()},
    }


def _share(text: str, target: str) -> float | None:
    return share(thought_of(text), target)


def _model_hash(path: str) -> str | None:
    return content(Path(path)) if Path(path).is_dir() else None


def _write_lines(path: Path, rows: list[Row]) -> None:
    with replacing(path) as stream:
        stream.writelines(json_line(row) for row in rows)

"""Rejection sampling: several samples a problem, verified, filtered, and written as training data with provenance."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object

from r1rl.config import RunConfig, SampleConfig
from r1rl.data.filters import Contamination, failed_rule, normalized
from r1rl.data.problems import ensure_disjoint, load_problems
from r1rl.data.sources import load_rows
from r1rl.errors import DataError
from r1rl.model.load import Policy, load_policy
from r1rl.rollout.build import build_engine
from r1rl.rollout.collect import completion_seeds
from r1rl.rollout.engine import Request
from r1rl.scoring import Scorer
from r1rl.stages.base import StageContext, StageResult
from r1rl.stages.rewrite import rewritten
from r1rl.stages.samples import SampleLog, rows_of
from r1rl.types import Completion, Group, Problem, SamplingParams
from r1rl_rewards.language import language

_SEED_STEP = 2**31 - 3
"""Place of rejection sampling in the random streams, which no training step reaches."""
_WAITING = 16
"""Groups that may wait for their scores before sampling waits for them."""

Row = dict[str, Any]


def run(ctx: StageContext) -> StageResult:
    """Sample ``model.path`` on ``data.train`` and leave STAGE/data.jsonl, dropped.jsonl and filters.json."""
    cfg = ctx.config
    policy = load_policy(cfg.model, ctx.accelerator.device)
    sets = load_problems(cfg.data.train, cfg.data.prompt, policy.tokenizer)
    held_out = load_problems(cfg.data.eval, cfg.data.prompt, policy.tokenizer)
    problems = ensure_disjoint(sets, held_out, cfg.data.on_overlap).problems
    log = SampleLog(ctx.folder, ctx.accelerator.process_index)
    draw(ctx, policy, problems, log)
    ctx.accelerator.wait_for_everyone()
    data = ctx.folder / "data.jsonl"
    metrics: dict[str, Any] = {}
    if ctx.accelerator.is_main_process:
        order = {problem.id: index for index, problem in enumerate(problems)}
        rows = sorted(log.read(), key=lambda row: (order.get(row["problem"], -1), row["sample"]))
        metrics = finish(ctx, [row for row in rows if row["problem"] in order], _evaluated(held_out.problems))
    metrics = _from_main(ctx, metrics)
    return StageResult(data=data, metrics=metrics, reports={"filters": ctx.folder / "filters.json"})


def draw(ctx: StageContext, policy: Policy, problems: list[Problem], log: SampleLog) -> None:
    """Sample and score what the log does not have yet; every group is on disk as soon as it is scored."""
    cfg, settings = ctx.config, ctx.config.sample
    params = SamplingParams(
        settings.max_new_tokens or cfg.rollout.max_new_tokens,
        settings.temperature,
        settings.top_p,
        stop=tuple(cfg.rollout.stop),
    )
    rank, ranks = ctx.accelerator.process_index, ctx.accelerator.num_processes
    done = log.problems(settings.samples)
    requests = [
        Request(problem, completion_seeds(cfg.seed, _SEED_STEP, 0, index, settings.samples))
        for index, problem in enumerate(problems)
        if problem.id not in done
    ][rank::ranks]
    if done:
        ctx.console.say(f"{ctx.name}: {len(done)} of {len(problems)} problems were sampled before")
    applies = {name: source.rewards for name, source in cfg.data.train.items()}
    engine = build_engine(cfg, policy)
    try:
        with (
            Scorer(cfg.rewards, cfg.scoring, applies=applies) as scorer,
            ctx.console.progress(f"{ctx.name}: sampling", total=len(requests), unit="problem") as progress,
        ):
            waiting: deque[Group] = deque()

            def write(keep: int) -> None:
                while len(waiting) > keep:
                    log.append(rows_of(scorer.score([waiting.popleft()])[0]))
                    progress.update(done=progress.done + 1)

            def finished(index: int, completions: list[Completion]) -> None:
                group = Group(requests[index].problem, completions)
                scorer.submit(group)
                waiting.append(group)
                write(_WAITING)

            engine.generate(requests, params, finished)
            write(0)
    finally:
        engine.close()
        log.close()


@dataclass(slots=True)
class Sieve:
    """Rows on their way through the filters: what is left, what was dropped and why."""

    rows: list[Row]
    dropped: list[Row]
    table: list[tuple[str, int, int]]
    """Each filter with what it removed and what it left."""

    def keep(self, name: str, passes: Iterator[bool] | list[bool]) -> None:
        """Drop the rows that do not pass, for the reason ``name``."""
        verdicts = list(passes)
        out = [row | {"dropped": name} for row, good in zip(self.rows, verdicts, strict=True) if not good]
        self.rows = [row for row, good in zip(self.rows, verdicts, strict=True) if good]
        self.dropped += out
        self.table.append((name, len(out), len(self.rows)))


def finish(ctx: StageContext, rows: list[Row], evaluated: list[str]) -> dict[str, Any]:
    """The samples through every filter, then on disk; returns the figures of the stage.

    Raises: DataError where nothing is left.
    """
    cfg, settings = ctx.config, ctx.config.sample
    sieve = Sieve(rows, [], [])
    sieve.keep("wrong", [is_right(row, settings.keep) for row in sieve.rows])
    by_rule(sieve, cfg)
    if settings.rewrite is not None:
        sieve.rows, lost = rewritten(sieve.rows, cfg, ctx.console)
        sieve.dropped += lost
        sieve.table.append(("rewrite", len(lost), len(sieve.rows)))
        by_rule(sieve, cfg)
    sieve.rows += mixed(settings)
    if settings.deduplicate:
        sieve.keep("double", _first_of_each(sieve.rows))
    if settings.decontaminate:
        contamination = Contamination(evaluated, settings.decontaminate)
        texts = (f"{row['question']}\n{row[settings_response(row)]}" for row in sieve.rows)
        sieve.keep("contaminated", [not contamination.found_in(text) for text in texts])
    balance(sieve, settings)
    if not sieve.rows:
        removed = ", ".join(f"{count} {name}" for name, count, _ in sieve.table if count)
        raise DataError(
            f"stage {ctx.name}: none of {len(rows)} samples is left ({removed}); loosen sample.keep or sample.filters, "
            "or draw more samples"
        )
    _write_lines(ctx.folder / "dropped.jsonl", sieve.dropped)
    _write_lines(ctx.folder / "data.jsonl", [_provenance(row, cfg) for row in sieve.rows])
    (ctx.folder / "filters.json").write_text(json.dumps([list(line) for line in sieve.table], indent=2))
    ctx.console.table(
        f"{ctx.name}: {len(rows)} samples", ["filter", "removed", "left"], [list(line) for line in sieve.table]
    )
    return {
        "samples": len(rows),
        "generated_tokens": sum(row["tokens"] for row in rows),
        "kept": len(sieve.rows),
        "problems": len({row["problem"] for row in sieve.rows}),
        **{f"dropped_{name}": count for name, count in Counter(row["dropped"] for row in sieve.dropped).items()},
    }

"""Selects completions to read: recurring problems over training first, then evenly spaced others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from r1rl.records import logged_rewards
from r1rl.report.curves import short
from r1rl.report.read import RunFolder, Stage, is_number
from r1rl.tracking.console import visible

MOST = 400
"""Most completions of one run; several runs on a page share twice as many."""
TEXT = 6000
"""Most characters of one text."""


def samples_of(runs: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """Completions of all runs, in order of stage and step. Control characters in texts are escaped."""
    most = MOST if len(runs) == 1 else 2 * MOST // len(runs)
    return [
        {"run": index, "order": place, **row}
        for index, run in enumerate(runs)
        for place, row in enumerate(_choose(list(_rows(run)), most))
    ]


def _rows(run: RunFolder) -> Iterator[dict[str, Any]]:
    for stage in run.stages:
        yield from (_trained(stage, row) for row in stage.samples)
        yield from _evaluated(stage)


def _trained(stage: Stage, row: Mapping[str, Any]) -> dict[str, Any]:
    rewards = {name: short(value) for name, value in logged_rewards(row).items() if is_number(value)}
    return {
        "stage": stage.name,
        "step": row["step"],
        "problem": clipped(row.get("problem_id", row.get("problem", ""))),
        "prompt": clipped(conversation(row.get("prompt", ""))),
        "completion": clipped(row.get("completion", "")),
        "answer": None if row.get("answer") is None else clipped(row["answer"]),
        "reward": short(row["reward"]) if is_number(row.get("reward")) else None,
        "rewards": rewards,
        "length": row.get("length") if is_number(row.get("length")) else None,
        "finish": clipped(row.get("finish") or ""),
    }


def _evaluated(stage: Stage) -> Iterator[dict[str, Any]]:
    for saved in stage.evaluation.values():
        if not isinstance(saved, Mapping):
            continue
        ids = saved.get("problems") or []
        for index, row in enumerate(saved.get("samples") or []):
            problem = ids[index] if index < len(ids) else row.get("question", "")
            shown = {"prompt": row.get("question"), **row, "problem": row.get("problem", problem)}
            yield _trained(stage, {"step": None, **shown})


def _choose(rows: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """At most ``most`` rows, in their order; problems seen at several steps take precedence, most frequent first."""
    if len(rows) <= most:
        return rows
    by_problem: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        by_problem[row["problem"]].append(index)
    kept: set[int] = set()
    for indices in sorted(by_problem.values(), key=len, reverse=True):
        if len(indices) > 1 and len(kept) < most // 2:
            kept.update(_evenly(indices, min(len(indices), 40, most // 2 - len(kept))))
    rest = [index for index in range(len(rows)) if index not in kept]
    kept.update(_evenly(rest, most - len(kept)))
    return [rows[index] for index in sorted(kept)]


def _evenly(indices: Sequence[int], count: int) -> list[int]:
    """``count`` of them, the first and the last included."""
    if count >= len(indices):
        return list(indices)
    if count <= 1:
        return [indices[-1]] if count else []
    return [indices[round(i * (len(indices) - 1) / (count - 1))] for i in range(count)]


def conversation(prompt: Any) -> str:
    """A prompt as one text, plain or a list of messages."""
    if isinstance(prompt, list):
        return "\n".join(f"[{m.get('role')}] {m.get('content')}" for m in prompt if isinstance(m, Mapping))
    return "" if prompt is None else str(prompt)


def clipped(value: Any) -> str:
    """Text that is safe to show, with the middle of a very long one left out: the end holds the answer."""
    text = str(value)
    if len(text) > TEXT:
        head, tail = TEXT * 2 // 3, TEXT // 3
        text = f"{text[:head]}\n… {len(text) - head - tail:,} characters left out …\n{text[-tail:]}"
    return visible(text)

"""Why a run does not learn: the causes that its own metrics show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

Metrics = Mapping[str, float]
RECENT = 20
"""Steps looked at, from the end."""


@dataclass(frozen=True, slots=True)
class Symptom:
    """A cause, how to see it in the recent means, and what to do about it."""

    found: Callable[[Metrics], bool]
    says: str


def _above(name: str, bound: float) -> Callable[[Metrics], bool]:
    return lambda m: m.get(name, float("-inf")) > bound


SYMPTOMS: tuple[Symptom, ...] = (
    Symptom(
        _above("rollout/zero_variance_groups", 0.8),
        "{rollout/zero_variance_groups:.0%} of the groups have equal rewards and teach nothing: set "
        "grpo.dynamic_sampling, filter with data.difficulty, or raise rollout.group_size",
    ),
    Symptom(
        _above("reward/unscored", 0.2),
        "{reward/unscored:.0%} of the completions got no reward, and nothing is learned from them: look at "
        "reward/NAME/none and reward/NAME/errors (a judge that does not answer, a column that is empty)",
    ),
    Symptom(
        _above("rollout/truncated", 0.5),
        "{rollout/truncated:.0%} of the completions are cut: raise rollout.max_new_tokens, or check rollout.stop",
    ),
    Symptom(
        lambda m: m.get("reward/format/mean", 1.0) == 0.0,
        "the format reward is always 0: if the chat template already writes <think>, the completions lack it; "
        "look at samples.jsonl and set data.prompt.prefill",
    ),
    Symptom(
        lambda m: m.get("reward/accuracy/mean", 1.0) == 0.0 and m.get("rollout/truncated", 0.0) <= 0.5,
        "no answer was right: look at samples.jsonl for answers that could not be read (data.*.answer_pattern), or "
        "start from a stronger model",
    ),
    Symptom(
        lambda m: m.get("policy/ratio_deviation", 0.0) > 1e-3 and m.get("policy/updates", 1.0) == 1.0,
        "π/π_old deviates from 1 by {policy/ratio_deviation:.2g} in on-policy updates: dropout, or a changed model",
    ),
    Symptom(
        _above("policy/engine_mismatch", 0.05),
        "engine and learner disagree by {policy/engine_mismatch:.2g} nats a token: use the same dtype for both, keep "
        "grpo.importance_cap on, and check the weight sync",
    ),
    Symptom(
        _above("policy/updates_skipped", 0.0),
        "updates were left out because their gradient was not finite: lower grpo.lr",
    ),
)


def diagnose(rows: Sequence[Metrics]) -> list[str]:
    """What the last steps of a metrics.jsonl show, worst first; empty if nothing is known to be wrong."""
    recent = rows[-RECENT:]
    names = {name for row in recent for name, value in row.items() if isinstance(value, int | float)}
    means = {name: fmean(row[name] for row in recent if name in row) for name in names}
    return [symptom.says.format_map(means) for symptom in SYMPTOMS if symptom.found(means)]

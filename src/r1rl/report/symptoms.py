"""Known problems that show in a stage's metrics, with remedies: one table for the report and ``r1rl doctor``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from r1rl.records import Rows
from r1rl.tracking.jsonl import NON_FINITE

GOOD, UNKNOWN, WARN, BAD = "good", "unknown", "warn", "bad"
LEVELS = (GOOD, UNKNOWN, WARN, BAD)

RECENT = 20
"""Number of latest steps that describe the current state."""
FEWEST = 3
"""Steps after which a reward that is always 0 is reported."""
LOST = 0.01
"""Largest acceptable share of completions whose check or call was lost."""
LOSSES = ("timeouts", "errors", "crashes")
"""Kinds of lost checks and calls; ``reward/NAME/KIND`` counts them."""


def recent(values: Sequence[float]) -> float:
    """The mean over the last steps."""
    return fmean(values[-RECENT:])


@dataclass(frozen=True, slots=True)
class Symptom:
    """A metric whose value should stay within a bound.

    ``bound`` is the largest acceptable value; ``says`` is formatted with ``value``, and ``share`` in percent.
    """

    metric: str
    bound: float
    level: str
    says: str
    read: Callable[[Sequence[float]], float] = recent


NO_SIGNAL = Symptom(
    "rollout/zero_variance_groups",
    0.8,
    WARN,
    "{share} of the groups have equal rewards and teach nothing: set grpo.dynamic_sampling, filter with "
    "data.difficulty, or raise rollout.group_size",
)
"""Concerns learning, not a malfunction; a solved dataset looks the same."""
CUT = Symptom(
    "rollout/truncated",
    0.2,
    WARN,
    "{share} of completions cut at the limit lately: raise rollout.max_new_tokens, or check rollout.stop",
)
SYMPTOMS = (
    Symptom(
        "policy/updates_skipped",
        0,
        BAD,
        "{value:.3g} updates skipped because the loss or gradient was not finite: lower grpo.learning_rate",
        max,
    ),
    Symptom(
        "policy/engine_mismatch",
        0.05,
        BAD,
        "{value:.2g} nats per token between sampler and learner: use the same dtype for both, leave model.lora.dropout "
        "at 0, keep grpo.importance_cap on, and check the weight sync",
    ),
    Symptom(
        "policy/first_ratio_deviation",
        0.05,
        BAD,
        "π/π_old deviates from 1 by {value:.2g} in the first, on-policy update of a rollout: dropout "
        "(model.lora.dropout), or a changed model",
    ),
    Symptom("policy/guards_crossed", 0, WARN, "{value:.3g} bounds of grpo.guards crossed in a step", max),
    CUT,
    Symptom(
        "reward/unscored",
        0.01,
        WARN,
        "{share} of completions got no reward, and nothing is learned from them: look at reward/NAME/none and "
        "reward/NAME/errors (a judge that does not answer, a column that is empty)",
    ),
    Symptom("system/tracker_failures", 0, WARN, "{value:.3g} calls to a tracking service failed", max),
)


def symptoms(rows: Rows) -> list[tuple[str, str]]:
    """(level, text) of every known problem of a stage, in the order of the tables here."""
    return [*_not_finite(rows), *over(SYMPTOMS, rows), *_lost_checks(rows), *_silent_rewards(rows)]


def causes(rows: Rows) -> list[str]:
    """Why a run learns little: every symptom its metrics show, a missing signal included, the worst first."""
    found = sorted([*over([NO_SIGNAL], rows), *symptoms(rows)], key=_severity, reverse=True)
    return [text.replace("\N{NO-BREAK SPACE}", "") for _, text in found]


def _severity(found: tuple[str, str]) -> int:
    return LEVELS.index(found[0])


def over(table: Sequence[Symptom], rows: Rows) -> Iterator[tuple[str, str]]:
    """(level, text) of the symptoms present in the rows."""
    for symptom in table:
        found = values(rows, symptom.metric)
        if found and (value := symptom.read(found)) > symptom.bound:
            yield symptom.level, symptom.says.format(value=value, share=percent(value)) + "."


def values(rows: Rows, name: str) -> list[float]:
    """The finite values of a metric."""
    found = (row.get(name, _before(row, name)) for row in rows)
    return [value for value in found if isinstance(value, int | float)]


def _before(row: Mapping[str, Any], name: str) -> Any:
    """What earlier versions logged in place of a metric: of one update per step, the step's is the first one's."""
    first = name == "policy/first_ratio_deviation" and row.get("policy/updates", 1) == 1
    return row.get("policy/ratio_deviation") if first else None


def _not_finite(rows: Rows) -> Iterator[tuple[str, str]]:
    counts = Counter(name for row in rows for name in row if name.endswith(NON_FINITE))
    for name, count in counts.items():
        yield BAD, f"{name.removesuffix(NON_FINITE)} was not finite in {count} steps."


def _lost_checks(rows: Rows) -> Iterator[tuple[str, str]]:
    for reward in checked_rewards(rows):
        share = lost_share(rows, reward)
        if share > LOST:
            counts = {kind: sum(values(rows, f"{reward}/{kind}")) for kind in LOSSES}
            listed = ", ".join(f"{kind} {count:.0f}" for kind, count in counts.items() if count)
            yield (
                WARN,
                f"{reward} lost its call or check on {percent(share)} of completions ({listed}): a lost call leaves "
                "its whole group without this reward's values, a lost check counts as not right.",
            )


def checked_rewards(rows: Rows) -> list[str]:
    """``reward/NAME`` of the reward functions whose calls were counted."""
    return sorted({name.rpartition("/")[0] for name in _names(rows) if name.endswith(tuple(f"/{k}" for k in LOSSES))})


def lost_share(rows: Rows, reward: str) -> float:
    """The share of completions for which ``reward/NAME`` lost its call or check, mean over the steps.

    Earlier versions logged counts only, with a lost call counted once for its group: a lower bound.
    """
    shares = values(rows, f"{reward}/lost")
    if shares:
        return fmean(shares)
    completions = sum(values(rows, "rollout/completions"))
    return sum(sum(values(rows, f"{reward}/{kind}")) for kind in LOSSES) / completions if completions else 0.0


def _silent_rewards(rows: Rows) -> Iterator[tuple[str, str]]:
    for name in _names(rows):
        found = values(rows, name)
        component = name.startswith("reward/") and name.endswith("/mean") and name.count("/") == 2
        if component and len(found) >= FEWEST and max(found) == min(found) == 0:
            reward = name.split("/")[1]
            if reward != "accuracy" or not [*over([CUT], rows)]:  # an answer that is cut off cannot be right
                yield WARN, f"{name} has been 0 in every step: {_HINTS.get(reward, _HINT)}."


_HINT = "look at samples.jsonl for what it is given"
_HINTS = {
    "format": "where the template pre-fills the tag, completions lack it; look at samples.jsonl and set "
    "data.prompt.prefill",
    "accuracy": "no answer was right; look at samples.jsonl for answers that could not be read "
    "(data.*.answer_pattern), or start from a stronger model",
}


def _names(rows: Rows) -> list[str]:
    return sorted({name for row in rows for name in row})


def percent(share: float) -> str:
    """A share as text, one decimal below ten."""
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%" if 0 < abs(share) < 0.1 else f"{100 * share:.0f}\N{NO-BREAK SPACE}%"

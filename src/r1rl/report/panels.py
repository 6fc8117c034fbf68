"""Which charts a stage is shown in: one table, in the order a reader asks for them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from r1rl.tracking.jsonl import NON_FINITE
from r1rl.tracking.names import describe


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart. ``metrics`` are regular expressions of whole names; a group ``(…)`` names the line."""

    section: str
    title: str
    hint: str
    """What to look for, one sentence."""
    metrics: tuple[str, ...]
    low: float | None = None
    """Lowest and highest value that the axis always shows."""
    high: float | None = None
    kind: str = "lines"
    """``lines``, or ``shares``: columns stacked to 100 %."""


PANELS = (
    Panel("Learning", "Reward", "Should rise and then settle.", ("reward/mean",)),
    Panel(
        "Learning",
        "Reward by component",
        "Format rises first, accuracy follows; one that falls is being traded away.",
        (r"reward/(?!mean$|std$)(.+)/mean",),
        0.0,
    ),
    Panel(
        "Learning",
        "Held-out accuracy",
        "Measured on problems that are never trained on; the figure that counts.",
        (r"eval/(.+/(?:pass@1|maj@\d+|accuracy))",),
        0.0,
        1.0,
    ),
    Panel(
        "Learning",
        "Groups without signal",
        "Share of groups whose rewards are all equal. Near 1 nothing is learned: too easy or too hard.",
        ("rollout/zero_variance_groups",),
        0.0,
        1.0,
    ),
    Panel(
        "What is sampled",
        "Length",
        "Growing with accuracy is reasoning, without it rambling.",
        (r"rollout/length_(mean|max)",),
        0.0,
    ),
    Panel(
        "What is sampled",
        "Truncated",
        "Share of completions cut at the limit; they seldom earn anything.",
        ("rollout/truncated",),
        0.0,
    ),
    Panel(
        "What is sampled",
        "Entropy",
        "Falls slowly. At 0 the policy has stopped exploring.",
        ("policy/entropy",),
        0.0,
    ),
    Panel(
        "What is sampled",
        "Spread of rewards",
        "What the advantages are made of; 0 is the end of learning.",
        ("reward/std",),
        0.0,
    ),
    Panel("Training", "Training loss", "Falls.", (r"(?:pretrain|sft|reward_model)/loss",)),
    Panel("Training", "Token accuracy", "Tokens that the model thought likeliest.", ("sft/token_accuracy",)),
    Panel(
        "Training",
        "Accuracy on pairs",
        "How often the chosen response scores higher; on held-out pairs it counts.",
        ("reward_model/(accuracy|held_out_accuracy)",),
        0.5,
        1.0,
    ),
    Panel("Training", "Margin", "Between the scores of a pair.", ("reward_model/(margin|held_out_margin)",), 0.0),
    Panel("Update", "Loss", "Hovers around 0 by construction; its level says little.", ("policy/loss",)),
    Panel(
        "Update",
        "Gradient norm",
        "Before clipping. Spikes come before trouble.",
        (r"(?:policy|sft|reward_model)/grad_norm",),
        0.0,
    ),
    Panel(
        "Update",
        "Engine mismatch",
        "Between sampler and learner, on the same tokens; far below 0.01.",
        ("policy/engine_mismatch",),
        0.0,
    ),
    Panel(
        "Update",
        "Distance",
        "From the reference (kl) and from the policy the update started from (approx_kl).",
        (r"policy/(kl|approx_kl)",),
        0.0,
    ),
    Panel("Update", "Clipped tokens", "0 with one update a rollout.", ("policy/clip_fraction",), 0.0),
    Panel("Update", "Learning rate", "As scheduled.", (r"(?:policy|pretrain|sft|reward_model)/lr",), 0.0),
    Panel(
        "Update",
        "Age of samples",
        "Updates between sampling and learning; bounded by rollout.max_staleness.",
        (r"rollout/staleness_(mean|max)",),
        0.0,
    ),
    Panel(
        "Time",
        "Where a step's time goes",
        "Share of each phase, averaged over a stretch of steps.",
        (r"time/(?!step$)(.+)",),
        0.0,
        1.0,
        "shares",
    ),
    Panel("Time", "Step time", "Seconds a step.", ("time/step",), 0.0),
    Panel("Time", "Completions a second", "Over the whole step.", ("rollout/completions_per_s",), 0.0),
    Panel(
        "Checks",
        "Checks lost",
        "Answers whose check timed out or failed: they earn nothing, right or wrong.",
        (r"reward/(.+/(?:timeouts|errors))",),
        0.0,
    ),
    Panel(
        "Checks", "How answers were checked", "By outcome; remembered ones were seen before.", (r"verify/(.+)",), 0.0
    ),
    Panel(
        "Checks",
        "Servers",
        "Lost and restarted vLLM servers, work asked for again or thrown away, since the start.",
        ("rollout/(server_failures|server_restarts|resubmitted|duplicates_dropped|dropped_stale)",),
        0.0,
    ),
    Panel("Checks", "Time of a reward", "99 % of calls stay below, milliseconds.", (r"reward/(.+)/p99_ms",), 0.0),
)

HIDDEN = re.compile(
    r"data/.+|rollout/(completions|tokens|prompt_tokens|staleness/.+)|policy/(version|micro_batches)|reward/.+/(p50_ms|std)|.+"
    + NON_FINITE
)
"""Logged, and in the table of all metrics, but not worth a chart each."""


def panels_of(names: Iterable[str], constant: Collection[str] = ()) -> list[dict[str, Any]]:
    """The panels that these metrics fill, each with ``lines``: metric and label.

    What no panel takes gets its own, unless it is ``constant``: a flat line says no more than the table.
    """
    left = dict.fromkeys(names)
    found = []
    for panel in PANELS:
        lines = [(name, match) for pattern in panel.metrics for name in left if (match := re.fullmatch(pattern, name))]
        if lines:
            found.append(_panel(panel, [(name, match[1] if match.re.groups else name) for name, match in lines]))
            for name, _ in lines:
                left.pop(name, None)
    for name in left:
        if name not in constant and not HIDDEN.fullmatch(name):
            metric = describe(name)
            panel = Panel("More", name, f"{metric.meaning}." if metric else "Logged by a reward function.", ())
            found.append(_panel(panel, [(name, name)]))
    return found


def _panel(panel: Panel, lines: list[tuple[str, str]]) -> dict[str, Any]:
    metric = describe(lines[0][0])
    unit = metric.unit if metric else ""
    return {
        "section": panel.section,
        "title": panel.title,
        "hint": panel.hint,
        "unit": "" if panel.kind == "shares" else unit,
        "low": panel.low,
        "high": panel.high,
        "kind": panel.kind,
        "lines": [{"metric": name, "label": label} for name, label in lines],
    }

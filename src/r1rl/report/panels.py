"""The charts of a stage: one table, in the order in which they are shown."""

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
    """What to look for, in one sentence."""
    metrics: tuple[str, ...]
    low: float | None = None
    """Lowest and highest value that the axis always includes."""
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
        "Growth together with accuracy is reasoning; without it, rambling.",
        (r"rollout/length_(mean|max)",),
        0.0,
    ),
    Panel(
        "What is sampled",
        "Truncated",
        "Share of completions cut at the limit; they rarely earn a reward.",
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
        "Advantages are computed from it; at 0 learning ends.",
        ("reward/std",),
        0.0,
    ),
    Panel("Training", "Training loss", "Falls.", (r"(?:pretrain|sft|reward_model)/loss",)),
    Panel("Training", "Token accuracy", "Share of tokens that the model ranked first.", ("sft/token_accuracy",)),
    Panel(
        "Training",
        "Accuracy on pairs",
        "How often the chosen response scores higher; on held-out pairs it counts.",
        ("reward_model/(accuracy|held_out_accuracy)",),
        0.5,
        1.0,
    ),
    Panel(
        "Training",
        "Margin",
        "Mean difference between the scores of a pair.",
        ("reward_model/(margin|held_out_margin)",),
        0.0,
    ),
    Panel("Update", "Loss", "Hovers around 0 by construction; its level says little.", ("policy/loss",)),
    Panel(
        "Update",
        "Gradient norm",
        "Before clipping. Spikes often precede instability.",
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
        "From the reference (kl) and from π_old, the policy before the first update on the rollout (approx_kl).",
        (r"policy/(kl|approx_kl)",),
        0.0,
    ),
    Panel(
        "Update",
        "Clipped tokens",
        "0 with one update per rollout, but for the tokens that clip_cov selects.",
        ("policy/clip_fraction",),
        0.0,
    ),
    Panel("Update", "Learning rate", "As scheduled.", (r"(?:policy|pretrain|sft|reward_model)/lr",), 0.0),
    Panel(
        "Update",
        "Age of samples",
        "Steps between sampling and learning; bounded by rollout.max_staleness.",
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
    Panel("Time", "Step time", "Seconds per step.", ("time/step",), 0.0),
    Panel("Time", "Completions per second", "Over the whole step.", ("rollout/completions_per_s",), 0.0),
    Panel(
        "Checks",
        "Checks lost",
        "Checks and calls that timed out or failed. A lost check counts as not right; a lost call gives no value.",
        (r"reward/(.+/(?:timeouts|errors|crashes))",),
        0.0,
    ),
    Panel(
        "Checks",
        "How answers were checked",
        "By outcome; remembered: answered from the cache.",
        (r"verify/(.+)",),
        0.0,
    ),
    Panel(
        "Checks",
        "Servers",
        "vLLM servers lost and restarted, requests resubmitted or discarded, since the start.",
        ("rollout/(server_failures|server_restarts|resubmitted|duplicates_dropped|dropped_stale)",),
        0.0,
    ),
    Panel("Checks", "Time of a reward", "99th percentile of calls, in milliseconds.", (r"reward/(.+)/p99_ms",), 0.0),
)

HIDDEN = re.compile(
    r"data/.+|rollout/(completions|tokens|prompt_tokens|staleness/.+)|policy/(version|micro_batches)|reward/.+/(p50_ms|std)|.+"
    + NON_FINITE
)
"""Listed in the table of all metrics, without a chart of their own."""


def panels_of(names: Iterable[str], constant: Collection[str] = ()) -> list[dict[str, Any]]:
    """The panels with data among these metrics, each with its ``lines``: metric and label.

    A metric of no panel gets one of its own, unless it is ``constant``: the table says as much as a flat line.
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

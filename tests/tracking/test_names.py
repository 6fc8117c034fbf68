"""The table of metrics."""

from __future__ import annotations

from r1rl.tracking.names import GROUPS, METRICS, describe, markdown, undocumented


def test_every_metric_belongs_to_a_group() -> None:
    assert {name.split("/")[0] for name in METRICS} <= set(GROUPS)
    assert all(metric.unit and metric.meaning for metric in METRICS.values())
    assert all(name in markdown() for name in METRICS)


def test_names_with_a_part_that_varies() -> None:
    assert describe("reward/accuracy/mean") == METRICS["reward/NAME/mean"]
    assert describe("reward/accuracy/mean/non_finite") == METRICS["reward/NAME/mean"]
    assert describe("data/gsm8k/skipped_too_long") == METRICS["data/SOURCE/skipped_REASON"]
    assert undocumented(["reward/mean", "reward/x/what", "loss"]) == ["loss", "reward/x/what"]

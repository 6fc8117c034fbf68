"""Pages that are made from the code are current."""

from __future__ import annotations

from pathlib import Path

from r1rl.tracking.names import markdown

DOCS = Path(__file__).parents[2] / "docs"


def test_the_table_of_metrics_is_current() -> None:
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    assert page == markdown(), "run: python -m r1rl.tracking.names > docs/metrics.md"

"""Why a run does not learn: the causes that its own metrics show, by the report's table of symptoms."""

from __future__ import annotations

from r1rl.report.symptoms import LEVELS, NO_SIGNAL, Rows, over, symptoms


def diagnose(rows: Rows) -> list[str]:
    """What a metrics.jsonl shows to be wrong, worst first; empty if nothing is known to be."""
    found = sorted([*over([NO_SIGNAL], rows), *symptoms(rows)], key=lambda found: LEVELS.index(found[0]), reverse=True)
    return [text.replace("\N{NO-BREAK SPACE}", "") for _, text in found]

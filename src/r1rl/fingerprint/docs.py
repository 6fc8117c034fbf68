"""The table of keys in docs/resume.md: ``python -m r1rl.fingerprint.docs`` generates it from the rules in ``keys``."""

from __future__ import annotations

from r1rl.fingerprint.keys import ROWS, Effect


def key_table() -> str:
    """Every key that is not ``learned``, grouped by effect and reason, in Markdown."""
    rows: dict[tuple[Effect, str, tuple[str, ...]], list[str]] = {}
    for row in ROWS:
        rows.setdefault((row.effect, row.why, row.kinds), []).append(f"`{row.pattern}`")
    lines = ["| effect | keys | why | stages |", "| --- | --- | --- | --- |"]
    for (effect, why, kinds), patterns in rows.items():
        lines.append(f"| {effect.value} | {', '.join(patterns)} | {why} | {', '.join(kinds) or 'all'} |")
    return "\n".join([*lines, "| learned | every other key | | all |"])


if __name__ == "__main__":
    print(key_table())

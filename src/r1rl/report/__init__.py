"""The report of a run: reads run folders, writes one HTML file. Imports only tracking, config and what lies below."""

from __future__ import annotations

from r1rl.report.page import write_page, write_report

__all__ = ["write_page", "write_report"]

"""Trackio: local by default (``trackio show``), a Space or a server by its own environment variables."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping

import trackio

from r1rl.records import Rows
from r1rl.tracking.base import Start, cells


class TrackioTracker:
    """One trackio run, found again by its name, which ends with the start of the run id."""

    def __init__(self, start: Start) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # its remarks would tear the live view
            self._run = trackio.init(
                project=start.project,
                name=f"{start.run_name}-{start.run_id[:6]}",
                group=start.run_name,
                config=dict(start.config),
                resume="allow",
                embed=False,
            )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def samples(self, step: int, rows: Rows) -> None:
        columns, data = cells(rows)
        self._run.log({"samples": trackio.Table(columns=columns, data=data)}, step=step)

    def close(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            trackio.finish()

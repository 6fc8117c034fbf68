"""Builds the trackers of a stage from its configuration."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1rl.config.tracking import TrackingConfig
from r1rl.files import write_json
from r1rl.registry import TRACKERS
from r1rl.tracking.base import CompositeTracker, FileTracker, NullTracker, Start, Tracker


def build_tracker(
    tracking: TrackingConfig,
    stage_dir: Path,
    run_name: str,
    config: Mapping[str, Any],
    resume_step: int | None = None,
    is_main: bool = True,
) -> Tracker:
    """The files and every service of ``tracking.report_to``, as one tracker.

    Args:
        stage_dir: ``RUN/STAGE``; receives metrics.jsonl, samples.jsonl, the run's id and local event files.
        run_name: shown by the services, for example ``NAME/STAGE``.
        config: the resolved configuration as plain nested values.
        resume_step: the checkpoint's step: later lines are removed from the files and the services' run is resumed;
            None starts anew, and empties the files.
        is_main: False on ranks that do not report; they get a tracker that keeps nothing.

    Raises:
        ConfigError: a service's package is not installed.
        R1Error: a service could not be started.
    """
    if not is_main:
        return NullTracker()
    reporters = [TRACKERS.load(name) for name in tracking.report_to]
    stage_dir.mkdir(parents=True, exist_ok=True)
    run_id = _run_id(stage_dir / "tracking.json", resume_step is not None)
    start = Start(
        project=tracking.project,
        run_name=tracking.run_name or run_name,
        stage_dir=stage_dir,
        config=config,
        run_id=run_id,
        resume_step=resume_step,
    )
    return CompositeTracker(FileTracker(stage_dir, resume_step), [reporter(start) for reporter in reporters])


def _run_id(path: Path, resumed: bool) -> str:
    """The id of the run that is resumed, or a new one; written beside the metrics."""
    if resumed and path.exists():
        try:
            return str(json.loads(path.read_text())["run_id"])
        except (ValueError, KeyError, TypeError):
            pass  # truncated: the services get a new run, the files are unaffected
    run_id = uuid.uuid4().hex[:12]
    write_json(path, {"run_id": run_id})
    return run_id

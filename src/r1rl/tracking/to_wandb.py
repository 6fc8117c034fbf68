"""Weights & Biases. Offline unless a login is present; never asks for one."""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import wandb

from r1rl.errors import R1Error
from r1rl.records import Rows
from r1rl.tracking.base import Start, cells


class WandbTracker:
    """One wandb run; ``RUN/STAGE/wandb`` holds what an offline run will ``wandb sync``."""

    def __init__(self, start: Start) -> None:
        mode = os.environ.get("WANDB_MODE") or ("online" if has_login() else "offline")
        try:
            self._run = wandb.init(
                project=start.project,
                name=start.run_name,
                id=start.run_id,
                resume="allow",
                dir=start.stage_dir,
                config=dict(start.config),
                mode=mode,  # type: ignore[arg-type]
                settings=wandb.Settings(console="off", silent=True, disable_code=True),
            )
        except wandb.Error as error:
            raise R1Error(
                f"wandb could not start: {error}; set WANDB_MODE=offline, or take it out of tracking.report_to"
            ) from error

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def samples(self, step: int, rows: Rows) -> None:
        columns, data = cells(rows)
        table = wandb.Table(columns=[*columns], data=data)
        self._run.log({"samples": table}, step=step)

    def close(self) -> None:
        self._run.finish()


def has_login() -> bool:
    """Whether wandb would find a key by itself: in the environment or in the netrc file."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    named = os.environ.get("NETRC")
    for path in [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            if netrc.netrc(path).hosts.get(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue  # wandb cannot use it either
    return False

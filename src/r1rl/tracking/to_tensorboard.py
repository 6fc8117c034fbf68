"""TensorBoard event files under ``RUN/STAGE/tensorboard``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from r1rl.records import Rows
from r1rl.tracking.base import Start
from r1rl.tracking.jsonl import plain


class TensorBoardTracker:
    """One folder of event files; starting anew hides what an earlier attempt left there."""

    def __init__(self, start: Start) -> None:
        folder = str(start.stage_dir / "tensorboard")
        self._writer: Any = SummaryWriter(folder, purge_step=None if start.resumed else 0)
        if not start.resumed:
            self._writer.add_text("config", _code(start.config), 0)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def samples(self, step: int, rows: Rows) -> None:
        self._writer.add_text("samples", "\n\n---\n\n".join(_code(row) for row in rows), step)

    def close(self) -> None:
        self._writer.close()


def _code(value: Mapping[str, Any]) -> str:
    """An indented block, which Markdown shows as it is."""
    text = json.dumps(plain(value), indent=2, ensure_ascii=False).replace("\\n", "\n")
    return "\n".join(f"    {line}" for line in text.split("\n"))

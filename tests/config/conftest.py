from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

SMALL = """
model: gpt2
data:
  train:
    gsm8k: {path: gsm8k}
rewards: {accuracy: 1.0}
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a small valid configuration, with more text after it, and returns its path."""

    def _write(more: str = "", name: str = "run.yaml", base: str = SMALL) -> Path:
        path = tmp_path / name
        path.write_text(base.lstrip("\n") + textwrap.dedent(more), encoding="utf-8")
        return path

    return _write

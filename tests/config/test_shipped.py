"""Every configuration that ships is valid, and its resolved form gives the same stages."""

from __future__ import annotations

from pathlib import Path

import pytest

from r1rl.config import dump_config, load_config, stage_config, stages_of

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_shipped(path: Path, tmp_path: Path) -> None:
    run = load_config(path)
    dump_config(run, tmp_path / "config.yaml")
    again = load_config(tmp_path / "config.yaml")
    for stage in stages_of(run):
        assert stage_config(again, stage) == stage_config(run, stage)

"""What a stage's folder shows of the work in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from r1rl.fingerprint.mark import has_checkpoints, progress


@pytest.mark.parametrize(
    ("name", "found"),
    [("step-000010", True), ("checkpoint-30", True), ("step-000010.1", False), (".writing-000010", False)],
)
def test_a_checkpoint_that_was_set_aside_is_none_to_resume_from(tmp_path: Path, name: str, found: bool) -> None:
    (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert has_checkpoints(tmp_path) is found
    assert bool(progress(tmp_path)) is found

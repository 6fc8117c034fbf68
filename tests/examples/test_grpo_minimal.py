"""The example that shows the algorithm before the framework."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples import grpo_minimal
from r1rl.config import ModelConfig
from r1rl.model.load import load_tokenizer

SOURCE = Path(grpo_minimal.__file__)


def test_it_stays_short():
    assert len(SOURCE.read_text(encoding="utf-8").splitlines()) <= 150


def test_it_trains_and_saves_a_model(tmp_path, capsys):
    before, after = grpo_minimal.main(tmp_path / "run", steps=2, overrides=["pretrain.tokens=20000"])
    assert 0 <= before <= 1
    assert 0 <= after <= 1
    assert "step   2" in capsys.readouterr().out
    assert load_tokenizer(ModelConfig(path=str(tmp_path / "run" / "policy"))).eos_token_id is not None


@pytest.mark.slow
def test_it_learns(tmp_path):
    before, after = grpo_minimal.main(tmp_path / "run", steps=30)
    assert after > before + 0.2

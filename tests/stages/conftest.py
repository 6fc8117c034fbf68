"""A model too small to know anything, and what a stage is given."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from r1rl.config import TinyModelConfig, load_config, stage_config
from r1rl.model.load import Policy
from r1rl.stages.base import StageContext
from r1rl.stages.pretrain import build_model, build_tokenizer, documents
from r1rl.tracking.console import Console


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a freshly initialised two-layer model with its tokenizer."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer(documents("bilingual", -1), 300)
    size = TinyModelConfig(hidden_size=32, layers=2, heads=2, kv_heads=1, intermediate_size=64)
    folder = tmp_path_factory.mktemp("tiny") / "model"
    Policy(build_model(size, tokenizer), tokenizer).save(folder)
    return folder


class Stages:
    """Makes the context of a stage from a plan in YAML."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, text: str, stage: str, *overrides: str) -> StageContext:
        path = self.folder / "plan.yaml"
        path.write_text(text)
        folder = self.folder / stage
        folder.mkdir(exist_ok=True)
        view = stage_config(load_config(path, overrides), stage)
        return StageContext(stage, view, folder, Accelerator(cpu=True), Console(quiet=True))


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    return Stages(tmp_path)

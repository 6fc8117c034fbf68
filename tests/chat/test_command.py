"""What `r1rl chat` and `r1rl export` cannot do, they say in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from r1rl.chat.generate import Sampling, TextGenerator
from r1rl.config import ExportConfig, ModelConfig, PromptConfig
from r1rl.errors import ConfigError, StorageError
from r1rl.stages.export import export_model


def test_a_device_that_there_is_not(tiny_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"--device bogus does not work here .*; use auto, cpu or cuda"):
        TextGenerator(str(tiny_folder), PromptConfig(), Sampling(0.6, 0.95, 8), "bogus")


def test_a_file_is_no_folder_to_export_to(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    model = ModelConfig(path=str(tiny_folder))
    with pytest.raises(ConfigError, match="file is a file; name a folder"):
        export_model(model, ExportConfig(), PromptConfig(), tmp_path / "file")
    with pytest.raises(StorageError, match=r"cannot write .*; choose another path"):
        export_model(model, ExportConfig(), PromptConfig(), tmp_path / "file" / "model")

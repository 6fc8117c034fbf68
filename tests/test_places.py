"""What is on the disk and what may be on the hub; missing models."""

from __future__ import annotations

from pathlib import Path

import pytest

from r1rl.config import ModelConfig
from r1rl.errors import ModelError
from r1rl.places import is_local, require_model


@pytest.mark.parametrize("name", ["gpt2", "Qwen/Qwen2.5-0.5B", "openai/gsm8k", "org/data-v1.5"])
def test_names_on_the_hub(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not is_local(name)
    require_model(name)


@pytest.mark.parametrize("name", ["./x", "../x", "/x", "~/x", "a/b/c", "rows.csv", "rows.JSONL", "here", "here/model"])
def test_places_on_the_disk(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here" / "model").mkdir(parents=True)
    assert is_local(name)


@pytest.mark.parametrize("name", ["./models/qwem", "/nowhere/model", "~/no-such-model", "runs/demo/zero", "model.gguf"])
def test_a_missing_model_is_told_from_the_disk(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "qwen").mkdir(parents=True)
    with pytest.raises(ModelError, match="no such folder: ") as error:
        require_model(name)
    if "qwem" in name:
        assert str(error.value).endswith("; did you mean models/qwen?")


def test_what_is_no_model_folder(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_text("")
    with pytest.raises(ModelError, match="is a file; give the folder"):
        require_model(str(tmp_path / "weights.bin"))
    with pytest.raises(ModelError, match=r"has no config\.json"):
        require_model(str(tmp_path))
    with pytest.raises(ModelError, match=r"model\.path is empty"):
        require_model("")


def test_the_home_folder_is_written_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ModelConfig(path="~/model").path == str(tmp_path / "model")

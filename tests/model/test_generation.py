"""Generation settings that transformers reads but does not write are put right when a model is opened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import GenerationConfig

from r1rl.config import ExportConfig, ModelConfig, PromptConfig
from r1rl.errors import ModelError
from r1rl.model.generation import accepted
from r1rl.model.load import Policy, load_policy
from r1rl.stages.export import export_model

CPU = torch.device("cpu")


def written(folder: Path) -> dict:
    return json.loads((folder / "generation_config.json").read_text())


def opened(policy: Policy, folder: Path, settings: dict) -> Policy:
    policy.save(folder)
    ids = {"eos_token_id": [1, 2], "pad_token_id": 0}
    (folder / "generation_config.json").write_text(json.dumps(ids | settings))
    return load_policy(ModelConfig(path=str(folder)), CPU)


@pytest.mark.parametrize(
    ("settings", "kept", "dropped"),
    [
        # As in many published checkpoints; meta-llama/Llama-2-7b-hf was corrected by its publisher in the same way.
        ({"temperature": 0.9, "top_p": 0.6}, {"temperature": 0.9, "top_p": 0.6, "do_sample": True}, set()),
        ({"do_sample": False, "temperature": 0.9, "max_length": 4096}, {"max_length": 4096}, {"temperature"}),
        ({"do_sample": True, "temperature": 0.7, "top_k": 20}, {"temperature": 0.7, "top_k": 20}, set()),
        ({"early_stopping": True, "temperature": 0.5}, {}, {"early_stopping", "temperature"}),
        ({"max_new_tokens": 77}, {"max_new_tokens": 77}, {"do_sample"}),
    ],
)
def test_every_checkpoint_can_be_saved_again(tiny_policy: Policy, tmp_path: Path, settings, kept, dropped) -> None:
    policy = opened(tiny_policy, tmp_path / "a", settings)
    policy.save(tmp_path / "b")
    found = {name: value for name, value in written(tmp_path / "b").items() if value is not None}
    assert found | kept == found
    assert not dropped & found.keys()
    assert (found["eos_token_id"], found["pad_token_id"]) == ([1, 2], 0)
    assert accepted(GenerationConfig.from_pretrained(tmp_path / "b"))
    assert {1, 2} <= set(policy.eos_ids)


def test_export_writes_them_too(tiny_policy: Policy, tmp_path: Path) -> None:
    opened(tiny_policy, tmp_path / "a", {"temperature": 0.9})
    export_model(ModelConfig(path=str(tmp_path / "a")), ExportConfig(), PromptConfig(), tmp_path / "b")
    assert written(tmp_path / "b")["temperature"] == 0.9


@pytest.mark.parametrize("lora", [None, {"rank": 2}])
def test_what_cannot_be_saved_is_said_before_training(tiny_folder: Path, lora, monkeypatch) -> None:
    policy = load_policy(ModelConfig(path=str(tiny_folder), lora=lora), CPU)
    policy.check_saving()
    monkeypatch.setattr(policy.model, "generation_config", GenerationConfig(temperature=0.5))
    with pytest.raises(ModelError, match=r"could not be saved after training, so training did not start.*temperature"):
        policy.check_saving()
    policy = load_policy(ModelConfig(path=str(tiny_folder)), CPU)
    monkeypatch.setattr(type(policy.tokenizer), "save_pretrained", lambda *_: (_ for _ in ()).throw(ValueError("odd")))
    with pytest.raises(ModelError, match=r"training did not start: odd\. Correct its config"):
        policy.check_saving()

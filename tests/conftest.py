"""What tests of several packages share: a tiny policy on disk, made by the project's own pre-training code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("r1rl", deadline=None)  # an example on a busy machine takes what it takes
hypothesis.settings.load_profile("r1rl")

pytest.register_assert_rewrite("tests.support")  # so that their assertions show values too

TINY = {"hidden_size": 32, "layers": 2, "heads": 4, "kv_heads": 2, "intermediate_size": 64}


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Path]:
    """``tiny_folders(tied)``: an untrained policy of about 30,000 parameters, in Hugging Face format."""
    import torch

    from r1rl.config import TinyModelConfig
    from r1rl.model.load import Policy
    from r1rl.stages.pretrain import build_model, build_tokenizer, documents

    made: dict[bool, Path] = {}

    def folder(tied: bool = True) -> Path:
        if tied not in made:
            torch.manual_seed(0)
            tokenizer = build_tokenizer(documents("arithmetic", seed=-1), 300)
            model = build_model(TinyModelConfig(**TINY, tie_embeddings=tied), tokenizer)
            made[tied] = tmp_path_factory.mktemp("tiny") / "model"
            Policy(model, tokenizer).save(made[tied])
        return made[tied]

    return folder


@pytest.fixture(scope="session")
def tiny_folder(tiny_folders: Callable[[bool], Path]) -> Path:
    return tiny_folders(True)


@pytest.fixture
def tiny_policy(tiny_folder: Path):
    """The tiny policy, loaded; each test gets its own."""
    import torch

    from r1rl.config import ModelConfig
    from r1rl.model.load import load_policy

    return load_policy(ModelConfig(path=str(tiny_folder)), torch.device("cpu"))

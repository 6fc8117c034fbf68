"""What ``MODEL`` on the command line means: a folder, RUN/STAGE, or a name on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from r1rl.config import PromptConfig, load_config, stage_config, stages_of
from r1rl.errors import ConfigError


def locate(model: str) -> tuple[str, PromptConfig]:
    """The model's folder or name, and the prompt it was trained on if a run folder around it says so.

    Raises: ConfigError for a folder without a model.
    """
    path = Path(model).expanduser()
    if not path.is_dir():
        beside = path.parent.is_dir() and path.parent != Path()
        if beside or model.startswith((".", "/", "~")):
            raise ConfigError(f"{model} is not a folder; give a model folder, RUN/STAGE, or a Hugging Face name")
        return model, PromptConfig()
    if not (path / "config.json").is_file():
        if not (path / "model" / "config.json").is_file():
            made = sorted(str(found.parent) for found in path.glob("*/model/config.json"))
            hint = f"; it holds {', '.join(made)}" if made else ""
            raise ConfigError(f"{path} holds no model (config.json){hint}")
        path /= "model"
    return str(path.absolute()), _prompt_of(path.absolute())


def _prompt_of(folder: Path) -> PromptConfig:
    """For RUN/STAGE/model, the stage's prompt in RUN/config.yaml."""
    run, stage = folder.parent.parent, folder.parent.name
    if not (run / "config.yaml").is_file():
        return PromptConfig()
    config = load_config(run / "config.yaml")
    return stage_config(config, stage).data.prompt if stage in stages_of(config) else PromptConfig()

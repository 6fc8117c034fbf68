"""``r1rl chat MODEL`` and ``r1rl export MODEL``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from r1rl.config import ExportConfig, ModelConfig, PromptConfig, load_config, stage_config, stages_of
from r1rl.errors import ConfigError

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A model folder, RUN/STAGE or a name.", show_default=False)]
Dtype = Literal["float32", "bfloat16", "float16"]


def chat(
    model: Model,
    temperature: Annotated[float, typer.Option(help="0 is greedy.", min=0)] = 0.6,
    top_p: Annotated[
        float, typer.Option(help="Sample from the most likely tokens of this total probability.", min=0.01, max=1)
    ] = 0.95,
    max_new_tokens: Annotated[int, typer.Option(help="Longest response.", min=1)] = 2048,
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    fold: Annotated[bool, typer.Option("--fold", help="Show thoughts as one line; /fold and /think switch.")] = False,
    seed: Annotated[int | None, typer.Option(help="Makes responses reproducible.", min=0, max=2**32 - 1)] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Chat with a model in the terminal: thoughts are dimmed, nothing leaves this machine."""
    from r1rl.chat.generate import Sampling, TextGenerator
    from r1rl.chat.session import Session
    from r1rl.tracking.console import visible

    folder, prompt = locate(model)
    generator = TextGenerator(folder, prompt, Sampling(temperature, top_p, max_new_tokens, seed), device)
    Session(generator, system, fold=fold, title=visible(model)).run()


def export(
    model: Model,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write it.", show_default=False)],
    dtype: Annotated[Dtype, typer.Option(help="Precision of the weights.")] = "bfloat16",
    chat_template: Annotated[
        bool, typer.Option(help="Add the template used in training to a tokenizer without one.")
    ] = True,
) -> None:
    """Write a model as a folder that transformers and ``vllm serve`` open."""
    from r1rl.stages.export import export_model

    path, prompt = locate(model)
    export_model(ModelConfig(path=path), ExportConfig(dtype=dtype, chat_template=chat_template), prompt, folder)
    print(f"exported: {folder}; serve it with: vllm serve {folder}")


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

"""``r1rl chat MODEL`` and ``r1rl export MODEL``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from r1rl.config import ExportConfig, ModelConfig
from r1rl.recipe.models import locate

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

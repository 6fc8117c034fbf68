"""``r1rl evaluate MODEL --on math500,aime24``: a model's pass@1 on published datasets, beside the published figure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer

from r1rl.config import PromptConfig, RunConfig
from r1rl.config.base import explicit
from r1rl.config.published import PRESETS, published
from r1rl.errors import ConfigError

INSTRUCTION = r"Please reason step by step, and put your final answer within \boxed{}."
"""Added to every question for models with a chat template, as DeepSeek-R1's model card asks for."""
_SEED = 0
"""Of the interval's resamples."""


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model folder, RUN/STAGE or a name.", show_default=False)
    ],
    on: Annotated[str, typer.Option(help=f"Datasets, separated by commas: {', '.join(PRESETS)}.", show_default=False)],
    samples: Annotated[int, typer.Option(help="Completions per problem.", min=1)] = 4,
    temperature: Annotated[float, typer.Option(help="0 is greedy.", min=0)] = 0.6,
    top_p: Annotated[float, typer.Option(help="Sample from the most likely tokens of this total.", min=0.01)] = 0.95,
    max_new_tokens: Annotated[int, typer.Option(help="Longest completion.", min=1)] = 2048,
    limit: Annotated[int | None, typer.Option(help="Only the first problems of each dataset.", min=1)] = None,
    dtype: Annotated[Literal["float32", "bfloat16"], typer.Option(help="Precision of the computation.")] = "float32",
    engine: Annotated[str, typer.Option(help="torch or vllm.")] = "torch",
    batch_size: Annotated[int, typer.Option(help="Sequences decoded at once.", min=1)] = 256,
    template: Annotated[
        str | None, typer.Option(help="Prompt template; the model's own training prompt, else its chat template.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs"),
) -> None:
    """Measure a model on published datasets; the same command again shows the same results."""
    from r1rl.recipe.models import locate
    from r1rl.recipe.run import run_recipe
    from r1rl.tracking.console import Console

    names = _names(on)
    path, trained = locate(model)
    prompt = _prompt(path, trained, template)
    sources = {name: {"preset": name} | ({"limit": limit} if limit else {}) for name in names}
    reward = PRESETS[names[0]].reward
    config = RunConfig.model_validate(
        {
            "name": _folder(path, names),
            "output_dir": str(out),
            "model": {"path": path, "dtype": dtype},
            "data": {"eval": sources, "prompt": prompt | {"max_tokens": 4096, "too_long": "skip"}},
            "rewards": {reward: {"weight": 1.0}},
            "rollout": {"max_new_tokens": max_new_tokens, "engine": engine},
            "evaluate": {
                "samples": samples,
                "temperature": temperature,
                "top_p": top_p,
                "batch_size": batch_size,
                "reward": reward,
                "show": 1,
            },
            "stages": {"evaluate": {"kind": "evaluate"}},
        }
    )
    folder = run_recipe(config, yes=True)
    results = json.loads((folder / "results.json").read_text())["evaluate"]
    saved = json.loads((folder / "evaluate" / "evaluation.json").read_text())
    rows = [_row(path, name, results, saved[name]["correct"], partial=limit is not None) for name in names]
    title = f"{model}: pass@1 over {samples} samples at temperature {temperature:g}, with 95 % intervals over problems"
    Console().table(title, ["dataset", "problems", "pass@1", "95 %", "length", "truncated", "published"], rows)


def _names(on: str) -> list[str]:
    """The datasets that ``--on`` names.

    Raises: ConfigError for an unknown one, one without a reward of r1rl's, and several that need different rewards.
    """
    names = list(dict.fromkeys(name.strip() for name in on.split(",") if name.strip()))
    unknown = [name for name in names if name not in PRESETS]
    if unknown or not names:
        raise ConfigError(f"--on: {', '.join(unknown) or 'nothing'} is not a dataset; known: {', '.join(PRESETS)}")
    rewards = {name: PRESETS[name].reward for name in names}
    without = [name for name, reward in rewards.items() if reward is None]
    if without:
        raise ConfigError(
            f"--on: {', '.join(without)} needs a reward of your own; write it and a configuration (docs/rewards.md)"
        )
    if len(set(rewards.values())) > 1:
        pairs = ", ".join(f"{name} by {reward}" for name, reward in rewards.items())
        raise ConfigError(f"--on: these are judged by different rewards ({pairs}); evaluate them one by one")
    return names


def _prompt(path: str, trained: PromptConfig, template: str | None) -> dict[str, Any]:
    """The prompt that the model was trained on, if its run says so; else its chat template, else R1-Zero's."""
    known = explicit(trained)
    if known and template is None:
        return known
    if template is None:
        template = "chat" if _has_chat_template(path) else "r1_zero"
    return {"template": template} | ({"instruction": INSTRUCTION} if template != "r1_zero" else {})


def _has_chat_template(path: str) -> bool:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path).chat_template is not None
    except (OSError, ValueError):
        return False  # loading the model reports what is wrong with it


def _folder(path: str, names: Sequence[str]) -> str:
    short = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(Path(path).parts[-3:])).strip("-.")
    return f"evaluate-{short}-{'-'.join(names)}"[:120]


def _row(
    path: str, name: str, results: Mapping[str, Any], correct: Sequence[float | None] | None, partial: bool
) -> list[Any]:
    known = None if partial else published(path, name)
    scores = [score for score in correct or () if score is not None]
    low, high = interval(scores) if scores else (None, None)
    return [
        name,
        int(results[f"{name}/problems"]),
        results.get(f"{name}/pass@1"),
        "" if low is None else f"{low:.3f} to {high:.3f}",
        results[f"{name}/length"],
        results[f"{name}/truncated"],
        f"{known.value / 100:.3f} ({known.where})" if known else "",
    ]


def interval(scores_N: Sequence[float], seed: int = _SEED) -> tuple[float, float]:
    """95 % percentile interval of the mean over problems, each problem's score resampled as a whole."""
    from r1rl.evaluation.metrics import paired_bootstrap

    return paired_bootstrap(np.zeros(len(scores_N)), scores_N, seed)

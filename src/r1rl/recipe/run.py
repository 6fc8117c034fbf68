"""Run the stages of a configuration in order; what is done and unchanged is not done again."""

from __future__ import annotations

import importlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator

from r1rl.config import RunConfig, StageConfig, dump_config, stage_config, stages_of
from r1rl.errors import ConfigError
from r1rl.recipe.fingerprint import stage_fingerprint
from r1rl.recipe.summary import summarize
from r1rl.stages.base import Stage, StageContext, StageResult
from r1rl.tracking.console import Console

STAGES = {
    "pretrain": "r1rl.stages.pretrain:run",
    "grpo": "r1rl.stages.grpo:run",
    "evaluate": "r1rl.stages.evaluate:run",
}
"""Where each kind of stage lives; a new one is one file and one row."""

ALONE = frozenset({"pretrain"})
"""Kinds that run on the main process while the others wait."""


@dataclass(slots=True)
class Done:
    """What RUN/STAGE/stage.json says of a finished stage."""

    fingerprint: str
    model: str | None
    metrics: dict[str, Any] = field(default_factory=dict)


def run_recipe(config: RunConfig, until: str | None = None) -> Path:
    """Run every stage, or up to the stage ``until``; returns the run folder.

    Raises:
        R1Error: any stage's own.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    accelerator = Accelerator(cpu=config.device == "cpu")
    console = Console(quiet=not (config.tracking.console and accelerator.is_main_process))
    folder = Path(config.output_dir) / config.name
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        dump_config(config, folder / "config.yaml")
    accelerator.wait_for_everyone()
    done: dict[str, Done] = {}
    for name, stage in stages_of(config).items():
        done[name] = _run_stage(name, stage, config, folder, done, accelerator, console)
        if accelerator.is_main_process:
            _write_results(folder, done)
        if name == until:
            break
    if accelerator.is_main_process:
        summarize(folder, config, console)
    return folder


def _run_stage(
    name: str,
    stage: StageConfig,
    config: RunConfig,
    run_folder: Path,
    done: dict[str, Done],
    accelerator: Accelerator,
    console: Console,
) -> Done:
    view = stage_config(config, name)
    inputs = {}
    if view.model.path in done:
        upstream = view.model.path
        inputs["model"] = done[upstream].fingerprint
        view.model.path = _model_of(upstream, done[upstream])
    fingerprint = stage_fingerprint(stage.kind, _placeless(view, inputs), inputs)
    folder = run_folder / name
    finished = _finished(folder, fingerprint)
    if finished is not None:
        console.say(f"{name}: done already, unchanged")
        return finished
    if accelerator.is_main_process:
        _set_aside(folder, fingerprint, console)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "fingerprint").write_text(fingerprint)
    accelerator.wait_for_everyone()
    console.say(f"{name}: {stage.kind}")
    result = _call(stage.kind, StageContext(name, view, folder, accelerator, console))
    record = Done(fingerprint, str(result.model) if result.model else None, result.metrics)
    if accelerator.is_main_process:
        _write_json(folder / "stage.json", asdict(record))
    accelerator.wait_for_everyone()
    return record


def _call(kind: str, ctx: StageContext) -> StageResult:
    module, _, function = STAGES[kind].partition(":")
    stage = cast(Stage, getattr(importlib.import_module(module), function))
    if kind not in ALONE or ctx.accelerator.num_processes == 1:
        return stage(ctx)
    result = stage(ctx) if ctx.accelerator.is_main_process else StageResult(model=ctx.folder / "model")
    ctx.accelerator.wait_for_everyone()
    return result


def _model_of(upstream: str, record: Done) -> str:
    if record.model is None:
        raise ConfigError(f"stage {upstream} makes no model, so no later stage can start from it")
    return str(Path(record.model).absolute())


def _placeless(view: RunConfig, inputs: dict[str, str]) -> RunConfig:
    """The configuration without the folder of an earlier stage: that stage's fingerprint stands for it."""
    if not inputs:
        return view
    copy = view.model_copy(deep=True)
    copy.model.path = "<stage>"
    return copy


def _finished(folder: Path, fingerprint: str) -> Done | None:
    file = folder / "stage.json"
    if not file.is_file():
        return None
    record = Done(**json.loads(file.read_text()))
    whole = record.model is None or (Path(record.model) / "config.json").is_file()
    return record if whole and record.fingerprint == fingerprint else None


def _set_aside(folder: Path, fingerprint: str, console: Console) -> None:
    """Keep what another configuration left in the stage's folder under another name; checkpoints of this one stay."""
    mark = folder / "fingerprint"
    if not mark.is_file() or mark.read_text() == fingerprint:
        return
    number = 1
    while folder.with_name(f"{folder.name}.{number}").exists():
        number += 1
    aside = folder.with_name(f"{folder.name}.{number}")
    os.replace(folder, aside)
    console.say(f"{folder.name}: its configuration or its inputs changed; the earlier outputs are kept in {aside}")


def _write_results(folder: Path, done: dict[str, Done]) -> None:
    _write_json(folder / "results.json", {name: record.metrics for name, record in done.items()})


def _write_json(path: Path, value: Any) -> None:
    draft = path.with_name(f".{path.name}")
    draft.write_text(json.dumps(value, indent=2))
    os.replace(draft, path)

"""``r1rl doctor``: checks a configuration before the run, a run folder after it, or the machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from r1rl.config import RunConfig, load_config, stage_config, stages_of
from r1rl.config.model import TINY_VOCABULARY
from r1rl.doctor.machine.command import check_machine, chosen
from r1rl.doctor.memory import GIB, RUNTIME_BYTES, Part, Shape, estimate
from r1rl.doctor.plan import Hardware, plan, show, with_engine
from r1rl.errors import ConfigError
from r1rl.places import require_model
from r1rl.report.symptoms import causes
from r1rl.tracking.console import Console
from r1rl.tracking.jsonl import read_jsonl


def doctor(
    target: Annotated[Path | None, typer.Argument(metavar="CONFIG|RUN", help="A YAML file, or a run folder.")] = None,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE")] = None,
    gpus: Annotated[int, typer.Option(help="GPUs of all machines; 0 is one process on the CPU.", min=0)] = 0,
    gpu_memory: Annotated[float, typer.Option(help="Memory of each GPU, in GiB.")] = 80.0,
    per_machine: Annotated[int, typer.Option("--gpus-per-machine", help="GPUs of a machine at most.", min=1)] = 8,
    launch: Annotated[str, typer.Option(metavar="FILE", help="Launch file of stages that name none.")] = "",
    zero: Annotated[
        int | None, typer.Option(help="ZeRO stage of stages that name no launch file; 0 is none.", min=0, max=3)
    ] = None,
    machine: Annotated[bool, typer.Option("--machine", help="Check this machine, in about five minutes.")] = False,
    json: Annotated[Path, typer.Option(help="With --machine: the file for all figures.")] = Path("machine.json"),
    check: Annotated[list[str] | None, typer.Option(help="With --machine: only this check; may be repeated.")] = None,
) -> int:
    """Say what a configuration does on these GPUs and whether it fits in memory, why a run's reward is flat, or whether
    this machine is ready."""
    console = Console()
    if machine:
        if target is not None:
            raise ConfigError("r1rl doctor --machine checks the machine alone: leave out the configuration or run")
        return check_machine(chosen(check or []), json, console)
    if target is None:
        raise ConfigError("name a configuration or a run folder, or use --machine to check this machine")
    if target.is_dir():
        _run_folder(target, console)
        return 0
    loaded = load_config(target, overrides or ())
    hardware = Hardware(gpus, gpu_memory, per_machine)
    if gpus:
        loaded = with_engine(loaded)
    shapes = {
        name: _shape(stage_config(loaded, name), loaded)
        for name, stage in stages_of(loaded).items()
        if stage.kind == "grpo"
    }
    if not gpus:
        for name, shape in shapes.items():
            _on_cpu(name, stage_config(loaded, name), shape, console)
        return 0
    named = launch or (_LAUNCH_FILES[2 if zero is None else zero] if gpus > 1 else None)
    planned = plan(loaded, shapes, hardware, named)
    for each in planned:
        if each.at is not None and each.parts:
            how = f"{each.processes()}, {each.engine}"
            _table(each.node.name, shapes[each.node.name], each.parts, RUNTIME_BYTES["cuda"], how, console)
            console.say(each.problem or f"fits: about {each.gib:.1f} of {gpu_memory:g} GiB")
    show(planned, hardware, console)
    return 0


_LAUNCH_FILES = ("ddp", "zero1", "zero2", "zero3")
"""By stage of ZeRO."""


def _on_cpu(name: str, view: RunConfig, shape: Shape, console: Console) -> None:
    parts = estimate(view, shape, 1, 0)
    runtime = RUNTIME_BYTES["cpu"]
    _table(name, shape, parts, runtime, "one process", console)
    console.say(f"about {(sum(part.bytes for part in parts) + runtime) / GIB:.2f} GiB at the peak")


def _table(name: str, shape: Shape, parts: Sequence[Part], runtime: float, how: str, console: Console) -> None:
    rows = [(p.name, p.bytes / GIB, p.knob) for p in parts if p.bytes] + [("libraries", runtime / GIB, "")]
    console.table(
        f"stage {name}: {shape.parameters / 1e6:.4g} M parameters, {how}", ["part", "GiB per rank", "knob"], rows
    )


def _shape(view: RunConfig, run: RunConfig) -> Shape:
    """Shape of the checkpoint, or of the model that an earlier pretrain stage builds."""
    plan = stages_of(run)
    if view.model.path in plan:
        upstream = stage_config(run, view.model.path)
        if plan[view.model.path].kind != "pretrain":
            return _shape(upstream, run)
        m = upstream.pretrain.model
        sizes = (m.hidden_size, m.layers, m.heads, m.kv_heads, m.hidden_size // m.heads, m.intermediate_size)
        return Shape.of(*sizes, TINY_VOCABULARY, m.tie_embeddings)
    from transformers import AutoConfig

    require_model(view.model.path)
    try:
        config: Any = AutoConfig.from_pretrained(view.model.path, revision=view.model.revision)
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.path: cannot read the sizes of {view.model.path!r}: {error}") from error
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", heads)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    sizes = (config.hidden_size, config.num_hidden_layers, heads, kv_heads, head_dim, config.intermediate_size)
    return Shape.of(*sizes, config.vocab_size, config.tie_word_embeddings)


def _run_folder(folder: Path, console: Console) -> None:
    found = False
    for file in sorted(folder.glob("**/metrics.jsonl")):
        set_aside = file.parent.suffix[1:].isdigit()  # STAGE.1, from another configuration
        rows = [row for row in read_jsonl(file) if "reward/mean" in row]
        if not rows or set_aside:
            continue
        found = True
        wrong = causes(rows)
        console.say(f"{file.parent}: {len(rows)} steps; " + ("nothing known to be wrong" if not wrong else "found:"))
        for cause in wrong:
            console.say(f"  - {cause}")
    if not found:
        raise ConfigError(f"{folder} has no metrics of a grpo stage; give a run folder or a configuration")

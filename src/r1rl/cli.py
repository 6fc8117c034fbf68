"""The command line: parse, validate, call. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import r1rl
from r1rl.config.kinds import with_launch
from r1rl.config.schema import stages_of
from r1rl.distributed.interrupt import Preempted, end_with
from r1rl.distributed.openmp import wait_shortly
from r1rl.errors import ConfigError, R1Error, tell
from r1rl.tracking.messages import show_command_messages

app = typer.Typer(
    name="r1rl",
    help="The whole DeepSeek-R1 recipe in one command.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE", help="Keys to change, for example grpo.learning_rate=1e-4.", show_default=False
    ),
]
Launch = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="accelerate's configuration (or ddp, zero1, zero2, zero3, zero3-offload) for stages that name none.",
    ),
]
MachineCount = Annotated[
    int,
    typer.Option("--num-machines", "--nnodes", envvar="PET_NNODES", help="Machines on which this command runs.", min=1),
]
MachineRank = Annotated[
    int, typer.Option("--machine-rank", "--node-rank", envvar="PET_NODE_RANK", help="This machine's number.", min=0)
]
MainAddress = Annotated[
    str,
    typer.Option(
        "--main-process-ip", "--master-addr", envvar="PET_MASTER_ADDR", help="Address of the machine of rank 0."
    ),
]
MainPort = Annotated[
    int,
    typer.Option("--main-process-port", "--master-port", envvar="PET_MASTER_PORT", help="Free port there."),
]
UsageError: type[Any] = typer.BadParameter.__bases__[0]
"""Usage errors of click; where typer imports click from depends on its version, hence the indirect access."""
FORWARD = {"allow_extra_args": True, "ignore_unknown_options": True}


def main(args: list[str] | None = None) -> None:
    """Entry point of the command ``r1rl``; ends the process.

    Exit code 0 on success, 2 for an error that a person can correct (one line on stderr), 75 when a scheduler asked
    the run to end and it wrote a checkpoint, 130 when interrupted. Any other exception prints its traceback; code 1.
    """
    wait_shortly(os.environ)
    words = sys.argv[1:] if args is None else args
    show_command_messages()
    try:
        ended = app(args=words or ["--help"], prog_name="r1rl", standalone_mode=False)
    except R1Error as error:
        tell(f"error: {error}")
        sys.exit(error.exit_code)
    except UsageError as error:
        asked = error.ctx.command_path if error.ctx else "r1rl"
        tell(f"error: {error.format_message().rstrip('.')} (see {asked} --help)")
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        ended = 130
    if ended == 130:
        tell("interrupted")
    sys.exit(ended if isinstance(ended, int) else 0)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"r1rl {r1rl.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    del version


@app.command()
def check(config: ConfigPath, overrides: Overrides = None) -> None:
    """Validate a configuration and what it names on this machine, and print the resulting sizes; starts nothing."""
    from r1rl.config.derived import derive, notes
    from r1rl.config.kinds import kind_of
    from r1rl.recipe.inspection import inspect
    from r1rl.tracking.console import Console

    loaded, console = r1rl.load_config(config, overrides or ()), Console()
    found = inspect(loaded)
    wrong = [f"stage {_few(of)}: {each.what}: {each.text}" for each, of in found.items() if each.ok is False]
    stages = {name: r1rl.stage_config(loaded, name) for name in stages_of(loaded)}
    kinds = {name: view.stages[name].kind for name, view in stages.items()}
    starts = [view.model.path if "model" in kind_of(kinds[name]).uses else "" for name, view in stages.items()]
    rows = list(zip(stages, kinds.values(), starts, strict=True))
    title = f"{config}: stages" if wrong else f"{config} is valid; stages"
    console.table(title, ["stage", "kind", "starts from"], rows)
    for ok, title in ((True, "looked at on this machine"), (None, "not looked at")):
        if there := [(each.what, each.text, _few(of)) for each, of in found.items() if each.ok is ok]:
            console.table(title, ["key", "what", "stages"], there)
    training = {name: view for name, view in stages.items() if kinds[name] == "grpo"}
    if training:
        sizes = [list(derive(view).rows()) for view in training.values()]
        table = [[row[0][0], *(size for _, size in row)] for row in zip(*sizes, strict=True)]
        console.table("sizes, over all processes", ["", *training], table)
    for name, view in training.items():
        for note in notes(view):
            console.say(f"note: stage {name}: {note}")
    if wrong:
        raise ConfigError("; ".join(wrong))


def _few(stages: list[str]) -> str:
    return ", ".join(stages if len(stages) <= 3 else [*stages[:2], f"{len(stages) - 2} more"])


@app.command()
def run(
    config: ConfigPath,
    overrides: Overrides = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show only errors.")] = False,
    start: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="Redo this stage and those that build on it.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="STAGE", help="Stop after this stage.")] = None,
    only: Annotated[str | None, typer.Option(metavar="STAGE", help="Run only this stage.")] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Redo what changed without asking; earlier outputs are kept.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan with sizes and times; run nothing.")
    ] = False,
    devices: Annotated[int, typer.Option(help="With --dry-run: accelerators; 0 is this machine's CPU.", min=0)] = 0,
    tflops: Annotated[float, typer.Option(help="With --dry-run: peak TFLOP/s of one (H100: 989).", min=1)] = 989.0,
    launch: Launch = None,
    machines: MachineCount = 1,
    machine_rank: MachineRank = 0,
    address: MainAddress = "",
    port: MainPort = 29500,
    launched: Annotated[bool, typer.Option("--launched", hidden=True)] = False,
) -> None:
    """Run every stage of a configuration; the same command again resumes it.

    On several machines start the same command on each, with --num-machines, --machine-rank and --main-process-ip.
    Under ``accelerate launch … -m r1rl run CONFIG``, all of its processes run each stage together.
    """
    if "LOCAL_RANK" in os.environ:  # launchers start their processes in a new session, which would outlive them
        end_with(os.getppid())
    loaded = r1rl.load_config(config, overrides or ())
    if launch is not None:
        loaded = with_launch(loaded, launch)
    if quiet:
        loaded.tracking.console = False
    if dry_run:
        importlib.import_module("r1rl.recipe.plan").dry_run(loaded, devices, tflops)
        return
    recipe = importlib.import_module("r1rl.recipe.run")
    given = {"until": until, "start": start, "only": only, "yes": yes, "launched": launched}
    if "LOCAL_RANK" not in os.environ:  # else a launcher has placed this process already
        place = importlib.import_module("r1rl.recipe.layout")
        at = place.Machines(machines, machine_rank, address, port).checked()
        given |= {"machines": at} if at.count > 1 else {}
    try:
        recipe.run_recipe(loaded, **{key: value for key, value in given.items() if value})
    except Preempted as ended:
        if not launched:
            raise
        if os.environ.get("RANK", "0") == "0":  # the run reads the stage's mark; a nonzero code prints a traceback
            tell(str(ended))


@app.command("config-docs", hidden=True)
def config_docs() -> None:
    """Print the reference of every configuration key, in Markdown."""
    from r1rl.config.docs import reference

    print(reference(), end="")


ELSEWHERE = {
    "grade": ("r1rl.scoring.commands", "Check whether an answer is right, as the accuracy reward does."),
    "reward": ("r1rl.scoring.commands", "Run reward functions on a file of completions, or list them."),
    "evaluate": ("r1rl.recipe.evaluate", "Measure a model on published datasets, beside the published figures."),
    "report": ("r1rl.report.command", "Write an HTML report on one or several runs."),
    "status": ("r1rl.recipe.status", "Show which stages of a run are done, when, and with what results."),
    "export": ("r1rl.chat.command", "Write a model to a folder that transformers and vLLM can open."),
    "chat": ("r1rl.chat.command", "Talk to a model in the terminal."),
    "doctor": ("r1rl.doctor.commands", "Check a configuration's memory, a run's flat reward, or this machine."),
}
"""Commands implemented in other packages: module, with a function named like the command, and help text."""


def _elsewhere(name: str, module: str, about: str) -> None:
    """Add a command that passes its arguments to a module, which is imported only when the command runs."""

    @app.command(name, help=about, context_settings=FORWARD, add_help_option=False)
    def forward(context: typer.Context) -> None:
        sub = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        sub.command()(getattr(importlib.import_module(module), name))
        ended = sub(args=context.args, prog_name=f"r1rl {name}", standalone_mode=False)
        raise typer.Exit(ended if isinstance(ended, int) else 0)


for _name, _where in ELSEWHERE.items():
    _elsewhere(_name, *_where)

"""``accelerate launch … -m r1rl.grpo --config CONFIG [--stage NAME] [--yes] [key=value …]``: one GRPO stage of a run.

Stages that it builds on are run first if they are not done.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from r1rl.config import load_config, stages_of
from r1rl.distributed.openmp import wait_shortly
from r1rl.errors import ConfigError, R1Error, tell
from r1rl.tracking.messages import show_command_messages


def main(
    config: Annotated[Path, typer.Option(help="A YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE")] = None,
    stage: Annotated[str | None, typer.Option(help="Which grpo stage; the first where none is named.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Redo what changed; earlier outputs are kept.")] = False,
) -> None:
    wait_shortly(os.environ)
    show_command_messages()
    from r1rl.distributed.interrupt import end_with
    from r1rl.distributed.processes import naming_lost_peers, placed
    from r1rl.recipe.run import run_recipe

    if "LOCAL_RANK" in os.environ:  # launchers give their processes a session of their own, which outlives them
        end_with(os.getppid())
    loaded = load_config(config, overrides or ())
    trained = [name for name, each in stages_of(loaded).items() if each.kind == "grpo"]
    if not trained or (stage is not None and stage not in trained):
        raise ConfigError(f"{config} has no grpo stage{f' called {stage}' if stage else ''}; it has {trained}")
    with naming_lost_peers(*placed(os.environ), "outside the training steps"):
        run_recipe(loaded, until=stage or trained[0], yes=yes)


if __name__ == "__main__":
    try:
        typer.run(main)
    except R1Error as error:
        tell(f"error: {error}")
        sys.exit(error.exit_code)

"""``-m r1rl.grpo --config CONFIG [--stage NAME] [--yes] [key=value …]`` is ``-m r1rl run CONFIG … --until NAME``.

NAME is a grpo stage, the first where none is given; stages that it builds on are run before it if they are not done.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Annotated

import typer

from r1rl.config import load_config, stages_of
from r1rl.errors import ConfigError, R1Error, tell


def main(
    config: Annotated[Path, typer.Option(help="A YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE")] = None,
    stage: Annotated[str | None, typer.Option(help="Which grpo stage; the first where none is named.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Redo what changed; earlier outputs are kept.")] = False,
) -> None:
    changed = overrides or []
    trained = [name for name, each in stages_of(load_config(config, changed)).items() if each.kind == "grpo"]
    if not trained or (stage is not None and stage not in trained):
        raise ConfigError(f"{config} has no grpo stage{f' called {stage}' if stage else ''}; it has {trained}")
    agreed = ["--yes"] if yes else []
    sys.argv[1:] = ["run", str(config), *changed, "--until", stage or trained[0], *agreed]
    runpy.run_module("r1rl", run_name="__main__")


if __name__ == "__main__":
    try:
        typer.run(main)
    except R1Error as error:
        tell(f"error: {error}")
        sys.exit(error.exit_code)

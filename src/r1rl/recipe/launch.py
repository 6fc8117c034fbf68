"""A stage in processes of its own: ``accelerate launch`` with the stage's launch configuration."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from r1rl.errors import R1Error

_PR_SET_PDEATHSIG = 1
_POLL_S = 1.0


def launch_stage(launch: str, config: Path, stage: str) -> None:
    """Run one stage under ``accelerate launch --config_file LAUNCH`` and wait for it.

    The processes read the run's resolved configuration; they end when this process ends, however it does.

    Raises:
        R1Error: the processes failed; their own messages stand above.
    """
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", launch]
    command += ["-m", "r1rl.recipe.launch", str(config), stage]
    child = subprocess.Popen(command, preexec_fn=_end_with_parent())
    try:
        code = child.wait()
    except BaseException:
        child.send_signal(signal.SIGTERM)
        child.wait()
        raise
    if code:
        raise R1Error(f"stage {stage} failed under {launch} with exit code {code}; its messages stand above")


def _end_with_parent() -> Callable[[], None] | None:
    """What the child runs first, on Linux: ask for SIGTERM when this process dies."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def end_with(parent: int) -> None:
    """End this process at once when ``parent`` is no longer its parent: nobody would read its results."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_S)
        os._exit(1)

    threading.Thread(target=watch, name="r1rl-parent", daemon=True).start()


def main(config: str, stage: str) -> None:
    """What every launched process runs."""
    from r1rl.config import load_config
    from r1rl.recipe.run import run_recipe

    end_with(os.getppid())
    run_recipe(load_config(config), only=stage, launched=True)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except R1Error as failure:
        print(f"r1rl: error: {' '.join(str(failure).split())}", file=sys.stderr)
        sys.exit(2)

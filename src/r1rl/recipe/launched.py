"""What every process of a launched stage runs: ``python -m r1rl.recipe.launched CONFIG STAGE``."""

from __future__ import annotations

import os
import signal
import sys

from r1rl.distributed.interrupt import SIGNALS, Preempted, end_with
from r1rl.errors import R1Error, tell
from r1rl.tracking.messages import show_command_messages


def main(config: str, stage: str) -> None:
    """Run the one stage of a resolved configuration, as one of several processes."""
    from r1rl.config import load_config
    from r1rl.distributed.processes import naming_lost_peers, placed
    from r1rl.recipe.run import run_recipe

    show_command_messages()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    end_with(os.getppid())
    with naming_lost_peers(*placed(os.environ), f"in stage {stage}, outside its training steps"):
        run_recipe(load_config(config), only=stage, launched=True)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Preempted as ended:  # the run reads the stage's mark; any other exit code prints the launcher's traceback
        if os.environ.get("RANK", "0") == "0":
            tell(str(ended))
    except R1Error as failure:
        tell(f"error: {failure}")
        sys.exit(failure.exit_code)

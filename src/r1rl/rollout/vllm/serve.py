"""Starts vLLM's own API server with the routes that weight sync needs: ``python -m r1rl.rollout.vllm.serve``.

Takes the arguments of ``vllm serve`` (``vllm serve --help``), and ``--owner PID``: the server ends when that process
does, for whatever reason. The weight routes have no password; listen on loopback or a private network only.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

POLL_S = 1.0


def main(arguments: list[str]) -> None:
    if "--owner" in arguments:
        at = arguments.index("--owner")
        owner = int(arguments[at + 1])
        arguments = arguments[:at] + arguments[at + 2 :]
        threading.Thread(target=_end_with, args=(owner,), daemon=True).start()
    os.environ.setdefault("VLLM_SERVER_DEV_MODE", "1")  # opens the weight routes
    sys.argv = ["vllm", *arguments]
    # By module and not by ``vllm serve``: the command looks for a distribution called vllm, the CPU build's is not.
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__", alter_sys=True)


def _end_with(owner: int) -> None:
    while Path(f"/proc/{owner}").exists():
        time.sleep(POLL_S)
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])

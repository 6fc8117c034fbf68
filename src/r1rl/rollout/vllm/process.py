"""A server process that r1rl started and therefore ends."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1rl.rollout.vllm.network import free_port, is_free

STOP_S = 10.0


class ServerProcess:
    """Starts one server, in a process group of its own.

    Args:
        command: the launcher; gets vLLM's arguments, ``--host``, ``--port`` and ``--owner``.
        log: file for its output, whose end explains a failed start.
    """

    def __init__(
        self, command: list[str], arguments: list[str], env: Mapping[str, str], log: Path, host: str, port: int
    ) -> None:
        self.command, self.arguments, self.env, self.log, self.host = command, arguments, dict(env), log, host
        self.port = port if port and is_free(host, port) else free_port(host)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        where = ["--host", self.host, "--port", str(self.port), "--owner", str(os.getpid())]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.command, *self.arguments, *where],
                env=os.environ | self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def exited(self) -> int | None:
        """Its exit status, or None while it runs."""
        return self._process.poll() if self._process else None

    def stop(self) -> None:
        """Ask it to end, so that it frees its shared memory; after :data:`STOP_S`, or if it is suspended, it is
        killed."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        self.kill()

    def kill(self) -> None:
        """End the whole group, including suspended members."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):  # all of them have ended already
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(STOP_S)
        self._process = None

    def move(self) -> None:
        """Choose another port if ours is in use by now."""
        if not is_free(self.host, self.port):
            self.port = free_port(self.host)

    def tail(self, lines: int = 15) -> str:
        """The end of its output."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


def command_line(arguments: Mapping[str, Any]) -> list[str]:
    """Python arguments of vLLM's engine as flags."""
    flags: list[str] = []
    for name, value in arguments.items():
        flag = name.replace("_", "-")
        if value is None:
            continue
        if isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            flags += [f"--{flag}", json.dumps(value) if isinstance(value, dict | list) else str(value)]
    return flags


def launcher(command: str | None) -> list[str]:
    """The command that starts a server: the configured one, or vLLM's own server under this Python."""
    return shlex.split(command) if command else [sys.executable, "-m", "r1rl.rollout.vllm.serve"]

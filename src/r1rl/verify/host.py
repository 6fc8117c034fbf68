"""The trainer's side of a host: a small process that imports once and forks worker processes on request."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import r1rl
from r1rl.verify.sandbox_host import receive

CONTROL_S = 30.0
"""Longest wait for the host to fork or reap a worker, which takes milliseconds unless the machine is overloaded."""
_LAUNCH = """
import sys
sys.path.insert(0, sys.argv[1])  # the trainer's own r1rl, whatever else is installed
from r1rl.verify.sandbox_host import main
sys.path.append(sys.path.pop(0))
main(sys.argv[2:])
"""
_START_S = 120.0


class Host:
    """The process that forks the workers; one request at a time, from any thread.

    Args:
        work: ``package.module:function``, a worker's main function; called with its socket, the host's process id and
            the argument of ``fork``.
        preload: modules that the host imports before it forks (and whose ``warm_up`` it runs).
        output: where the workers' standard output goes, as for ``subprocess.Popen``.
    """

    def __init__(self, work: str, preload: Sequence[str] = (), output: int | None = subprocess.DEVNULL) -> None:
        self._lock = threading.Lock()
        self._ready = False
        self._control, theirs = socket.socketpair()
        root = str(Path(r1rl.__file__).parents[1])  # found there even if it is not installed
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _LAUNCH, root, str(theirs.fileno()), work, *preload],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def fork(self, **request: Any) -> tuple[int, socket.socket]:
        """Start a worker; returns its process id and the socket to it.

        Raises: OSError or EOFError when the host is gone or does not answer in time.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            message = json.dumps({"do": "fork", **request}).encode()
            with self._lock:
                self._await_ready()
                socket.send_fds(self._control, [message], [theirs.fileno()])
                return int(receive(self._control)), ours

    def end(self, pid: int) -> int:
        """Kill and reap a worker; returns its exit code, or minus the signal if one had ended it. Raises as
        ``fork``."""
        with self._lock:
            self._await_ready()
            self._control.sendall(json.dumps({"do": "end", "pid": pid}).encode())
            return int(receive(self._control))

    def close(self) -> None:
        """Ask the host and its workers to end; kill the host if it does not."""
        self._control.close()
        try:
            self._process.wait(timeout=CONTROL_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=CONTROL_S)

    def kill(self) -> None:
        """Kill the host at once; its workers end with it."""
        self._control.close()
        self._process.kill()
        self._process.wait(timeout=CONTROL_S)

    def _await_ready(self) -> None:
        if not self._ready:
            self._control.settimeout(_START_S)
            if self._control.recv(1) != b"r":
                raise EOFError("the host did not start")
            self._control.settimeout(CONTROL_S)
            self._ready = True

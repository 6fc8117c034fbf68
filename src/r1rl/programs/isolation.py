"""The ways to start a process that sees nothing of this machine: bubblewrap, and plain user namespaces.

Both give the same: a read-only root, a bounded /tmp, no network, no other process in sight, no environment, no
capabilities, no new privileges, a filter on system calls, and an end with the process that started it. As root, the
process is started as ``NOBODY``, so that nothing inside belongs to root outside.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from r1rl.programs import unshare

NOBODY = 65534
ENVIRONMENT = {"PYTHONHASHSEED": "0"}
"""The same order of sets in every execution. The bootstrap removes it before the program starts."""
PYTHON = ("-X", "utf8", "-P", "-s", "-S", "-B")
"""Options of the interpreter: UTF-8 without a locale, no installed packages, no bytecode written."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What a sandbox contains."""

    root: Path
    """Mounted read-only as /. Has a folder /tmp and a file /dev/null to mount on."""
    command: tuple[str, ...]
    """Its only process at the start."""
    tmp_mb: int
    filter: bytes | None = None
    """On system calls, as ``seccomp`` makes it."""
    mounts: tuple[str, ...] = ()
    """Folders of this machine, mounted read-only at the same path."""


class Isolation(Protocol):
    """One way to start a sandbox."""

    name: str

    def missing(self) -> str:
        """What has to be installed for it; empty if nothing."""
        ...

    def start(self, cell: Cell, info: int, input: int | None, stdout: int) -> subprocess.Popen[bytes]:
        """Start a sandbox. The process returned is outside; it ends after the sandbox, with its exit status (128 +
        signal), and has waited for everything in it.

        Args:
            info: descriptor to which it writes ``{"child-pid": process id}`` of the first process inside.
            input: a descriptor that the process inside inherits.
            stdout: as for ``Popen``. stdin and stderr are pipes.
        """
        ...


class Bubblewrap:
    """Debian's ``bubblewrap``."""

    name = "bubblewrap"

    def missing(self) -> str:
        return "" if shutil.which("bwrap") else "bwrap is not installed"

    def start(self, cell: Cell, info: int, input: int | None, stdout: int) -> subprocess.Popen[bytes]:
        options = [
            "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts",
            "--unshare-cgroup-try", "--uid", str(NOBODY), "--gid", str(NOBODY), "--hostname", "sandbox",
            "--cap-drop", "ALL", "--die-with-parent", "--new-session", "--as-pid-1", "--clearenv",
            "--info-fd", str(info), "--ro-bind", str(cell.root), "/", "--dev-bind", "/dev/null", "/dev/null",
        ]  # fmt: skip
        for name, value in ENVIRONMENT.items():
            options += ["--setenv", name, value]
        for folder in cell.mounts:
            options += ["--ro-bind", folder, folder]
        options += ["--size", str(cell.tmp_mb << 20), "--tmpfs", "/tmp", "--chdir", "/tmp"]
        kept = [info] if input is None else [info, input]
        if cell.filter is None:
            return _popen(["bwrap", *options, "--", *cell.command], kept, stdout, **_as_nobody())
        filter, end = os.pipe()  # of 4.6 KB, less than any pipe holds
        try:
            with open(end, "wb") as stream:
                stream.write(cell.filter)
            options += ["--seccomp", str(filter)]
            return _popen(["bwrap", *options, "--", *cell.command], [*kept, filter], stdout, **_as_nobody())
        finally:
            os.close(filter)


class Namespaces:
    """User namespaces, made by a Python process of its own (``unshare``)."""

    name = "user namespaces"

    def __init__(self, interpreter: str) -> None:
        self._interpreter = interpreter

    def missing(self) -> str:
        return "" if hasattr(os, "pidfd_open") else "user namespaces exist on Linux only"

    def start(self, cell: Cell, info: int, input: int | None, stdout: int) -> subprocess.Popen[bytes]:
        inside = {
            "root": str(cell.root),
            "command": cell.command,
            "tmp_mb": cell.tmp_mb,
            "mounts": cell.mounts,
            "filter": base64.b64encode(cell.filter or b"").decode("ascii"),
            "user": NOBODY if os.geteuid() == 0 else None,
            "info": info,
            "input": input or 0,
            "parent": os.getpid(),
        }
        command = [self._interpreter, *PYTHON, unshare.__file__, json.dumps(inside)]
        return _popen(command, [info] if input is None else [info, input], stdout)


def _as_nobody() -> dict[str, Any]:
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def _popen(command: Sequence[str], kept: Sequence[int], stdout: int, **user: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=subprocess.PIPE,
        pass_fds=kept,
        cwd="/",
        env={**ENVIRONMENT, "PATH": os.environ.get("PATH", os.defpath)},
        bufsize=0,
        **user,
    )

"""Chooses how to isolate on this machine, by running a program that looks around."""

from __future__ import annotations

from r1rl.errors import SandboxError
from r1rl.programs.bootstrap import header
from r1rl.programs.isolation import Bubblewrap, Cell, Isolation, Namespaces
from r1rl.programs.roots import Roots
from r1rl.programs.sandboxed import Sandboxes, attend
from r1rl.programs.types import ProgramLimits

_LIMITS = ProgramLimits(cpu_s=20, wall_s=60)
_PROBE = b"""
import os
seen = set(os.listdir("/"))
problems = []
if os.getpid() != 1:
    problems.append("other processes are in sight")
if seen & {"home", "proc", "sys", "var", "run"} or os.path.exists("/etc/passwd"):
    problems.append("files of this machine are in sight")
if os.environ:
    problems.append("the environment is in sight")
for path in ("/written", "/dev/written"):
    try:
        open(path, "w")
        problems.append("files outside /tmp can be written")
    except OSError:
        pass
with open("/tmp/written", "w") as file:
    file.write("isolated")
print("; ".join(problems) or open("/tmp/written").read())
"""
_INSTALL = (
    "install bubblewrap (apt install bubblewrap) on a machine that allows user namespaces: sysctl "
    "user.max_user_namespaces above 0, on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0, in Docker "
    "--security-opt seccomp=unconfined --security-opt apparmor=unconfined; or use a remote sandbox"
)


def choose(roots: Roots, cell: Cell) -> Isolation:
    """The first way to isolate that works here.

    Raises: SandboxError that says why none works and what to install; a program is never run without isolation.
    """
    reasons = []
    for isolation in (Bubblewrap(), Namespaces(roots.interpreter)):
        reason = isolation.missing() or problem(isolation, cell)
        if not reason:
            return isolation
        reasons.append(f"{isolation.name}: {reason}")
    raise SandboxError(f"programs cannot be isolated on this machine ({'; '.join(reasons)}); {_INSTALL}")


def problem(isolation: Isolation, cell: Cell) -> str:
    """Why a program is not isolated this way; empty if it is."""
    sandboxes = Sandboxes(isolation)
    try:
        sandbox = sandboxes.start(cell)
        try:
            sandbox.ready()
            first = header(True, len(_PROBE), 0, 20_000, 512, 4, 64, cell.tmp_mb, 64)
            sandbox.give(first + _PROBE, _LIMITS)
            attend([sandbox], _LIMITS.wall_s)
        finally:
            execution = sandboxes.end(sandbox)
    except SandboxError as error:
        return str(error)
    said = (execution.stdout.strip() or execution.stderr.strip()).rpartition("\n")[2]
    return "" if said == "isolated" and execution.failure is None else said or f"a test program failed: {execution}"

"""The descendants of a host: measures the memory of a worker's process tree, and kills a worker with everything it
started.

Process trees are read from /proc; on other systems only the worker itself is killed and its memory is not watched.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import defaultdict

MEMORY_EXIT = 78
"""The reported exit code of a worker that was killed because it and its children exceeded their memory limit."""

_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20
_END_S = 10.0
_TREE_S = 2.0


class Bound:
    """The limit on the total memory of a worker and the processes it started."""

    def __init__(self, megabytes: int) -> None:
        self.megabytes = megabytes
        self.crossed = False

    def check(self, pids: list[int]) -> bool:
        """Whether these processes exceed the limit, or have exceeded it before."""
        self.crossed = self.crossed or sum(map(_resident_mb, pids)) > self.megabytes
        return self.crossed


class Watch:
    """Watches the workers of this host: the workers at every call, their descendants at intervals."""

    def __init__(self) -> None:
        self._next_tree = 0.0

    def look(self, workers: dict[int, Bound | None]) -> None:
        """Kill the trees that exceed their limit or whose worker is dead, and reap orphans."""
        bounded = {pid: bound for pid, bound in workers.items() if bound is not None}
        for pid, bound in bounded.items():
            if _dead(pid) or bound.check([pid]):  # a child that has a dead worker's socket open would hide its end
                kill_tree(pid)
        if bounded and time.monotonic() > self._next_tree:
            below = _below()  # reads all of /proc
            for pid, bound in bounded.items():
                if bound.check(_tree(pid, below)):
                    kill_tree(pid)
            for orphan in set(below.get(os.getpid(), ())) - workers.keys():
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(orphan, os.WNOHANG)
            self._next_tree = time.monotonic() + _TREE_S


def bury(pid: int) -> int:
    """Kill a child and the processes it has started, and reap it. Returns its exit code, or minus the signal if one had
    ended it."""
    kill_tree(pid)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return 0


def end_all() -> None:
    """Kill and reap all descendants of this process, including adopted orphans."""
    deadline = time.monotonic() + _END_S
    while (below := _below().get(os.getpid())) and time.monotonic() < deadline:
        for pid in below:
            bury(pid)


def kill_tree(pid: int) -> None:
    """Send SIGKILL to a process, its descendants, and orphaned members of its session's process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    for one in _tree(pid, _below()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


def _tree(pid: int, below: dict[int, list[int]]) -> list[int]:
    """A process and its descendants, parents first."""
    found = [pid]
    for one in found:
        found += below.get(one, ())
    return found


def _below() -> dict[int, list[int]]:
    """Process ids by parent."""
    found: defaultdict[int, list[int]] = defaultdict(list)
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        with contextlib.suppress(OSError, IndexError, ValueError), open(f"/proc/{name}/stat", "rb") as file:
            parent = int(file.read().rpartition(b")")[2].split()[1])  # the name before it may contain anything
            found[parent].append(int(name))
    return found


def _resident_mb(pid: int) -> float:
    with contextlib.suppress(OSError, IndexError, ValueError), open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * _PAGE_MB
    return 0.0


def _dead(pid: int) -> bool:
    """Whether a child has ended and waits to be reaped."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True

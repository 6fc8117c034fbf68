"""The host side of a sandbox: a host process that imports once and forks the workers.

``Host`` starts it with the number of an open socket, what its workers do, and the modules to preload. The host never
handles a request, so nothing a model writes can hang it; a worker only answers requests, within its limits. torch is
never imported here, so workers are forked in milliseconds from a small, single-threaded process. The workers of
``Sandbox`` check answers (``answer_checks``); those of a run's own reward functions are in ``scoring.worker``.

Lifetimes: the host ends when its socket closes or its parent is gone (it checks every second, since a forked copy of
the trainer may keep the socket open). It does not use PR_SET_PDEATHSIG itself: that fires when the *thread* that
started it ends. The workers use it with respect to the host, which has only one thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from r1rl.verify.offspring import MEMORY_EXIT, Bound, Watch, bury, end_all

HEADER = struct.Struct("!I")
MAX_MESSAGE = 1 << 22
FORBIDDEN_EXIT = 77
"""Exit code of a worker that attempted something no check needs: start a program, open a socket, write a file."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PARENT_S, _WATCH_S = 1.0, 0.1
"""Seconds between two checks of the parent, and of workers with a memory limit."""
_FORBIDDEN_EVENTS = (
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen", "pty.spawn", "socket.",
    "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.link", "os.symlink", "os.truncate", "shutil.",
    "ctypes.dlopen", "urllib.Request", "webbrowser.open", "code.__new__",
)  # fmt: skip


def send(channel: socket.socket, message: Any) -> None:
    """Send one JSON message, preceded by its length; lone surrogates survive as escapes."""
    body = json.dumps(message).encode("ascii")
    channel.sendall(HEADER.pack(len(body)) + body)


def receive(channel: socket.socket) -> Any:
    """Receive the next message. Raises EOFError if the other side is gone."""
    (length,) = HEADER.unpack(exactly(channel, HEADER.size))
    if length > MAX_MESSAGE:
        raise EOFError("oversized message")
    return json.loads(exactly(channel, length))


def exactly(channel: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = channel.recv(count - len(data))
        if not chunk:
            raise EOFError("the other side closed")
        data += chunk
    return data


def main(arguments: list[str]) -> None:
    """Preload, report readiness, then fork and reap workers on request."""
    for asked in (signal.SIGINT, signal.SIGTERM):  # the trainer decides when its work ends, and with it the host's
        signal.signal(asked, signal.SIG_IGN)
    _adopt_orphans()
    control = socket.socket(fileno=int(arguments[0]))
    parent = os.getppid()
    for name in arguments[2:]:
        module = importlib.import_module(name)
        for prepare in ("warm_up", "lock_down"):
            if hasattr(module, prepare):
                getattr(module, prepare)()
    gc.collect()
    gc.freeze()  # keeps memory pages shared with the workers
    work = _resolve(arguments[1])
    control.sendall(b"r")
    workers: dict[int, Bound | None] = {}
    watch = Watch()
    try:
        while os.getppid() == parent:
            pause = _WATCH_S if any(workers.values()) else _PARENT_S
            ready, _, _ = select.select([control], [], [], pause)
            if ready and not _serve(control, workers, work):
                break
            watch.look(workers)
    finally:
        for pid in workers:
            bury(pid)
        end_all()


def _serve(control: socket.socket, workers: dict[int, Bound | None], work: Callable[..., NoReturn]) -> bool:
    """Handle one request: ``fork`` with the worker's argument and a socket, or ``end`` with a pid. False at the end of
    the stream."""
    data, descriptors, _, _ = socket.recv_fds(control, 256, 1)
    if not data:
        return False
    request = json.loads(data)
    if request["do"] == "fork":
        channel = socket.socket(fileno=descriptors[0])
        host = os.getpid()
        pid = os.fork()
        if pid == 0:
            control.close()
            work(channel, host, request)
        channel.close()
        workers[pid] = Bound(request["tree_mb"]) if "tree_mb" in request else None
        send(control, pid)
    else:
        bound = workers.pop(request["pid"], None)
        code = bury(request["pid"])
        send(control, MEMORY_EXIT if bound is not None and bound.crossed else code)
    return True


def answer_checks(channel: socket.socket, host: int, request: dict[str, Any]) -> NoReturn:
    """The main loop of a worker."""
    code, limits = 0, request["limits"]
    try:
        die_with(host)
        _limit_resources(int(limits["memory_mb"]))
        sys.dont_write_bytecode = True  # or importing a module without stored bytecode would attempt to write
        sys.addaudithook(_refuse)
        while True:
            function, arguments = receive(channel)
            send(channel, _answer(function, arguments, limits["cpu_s"]))
    except EOFError:
        pass
    except BaseException:
        code = 1
    finally:
        os._exit(code)


def _answer(function: str, arguments: list[Any], cpu_s: float) -> dict[str, Any]:
    """Run one request under its own CPU timer; when it expires, the unhandled SIGPROF ends the process."""
    call = _resolve(function)
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    try:
        result: dict[str, Any] = {"ok": call(*arguments)}
    except MemoryError:
        result = {"lost": "memory"}
    except RecursionError:
        result = {"lost": "recursion"}
    except Exception as error:
        result = {"error": f"{type(error).__name__}: {error}"[:500]}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return result


def _resolve(function: str) -> Callable[..., Any]:
    module, _, name = function.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def die_with(host: int) -> None:
    """End this process when the host's only thread ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != host:
        os._exit(0)


def _adopt_orphans() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _limit_resources(memory_mb: int) -> None:
    """Limit address space to the host's plus ``memory``; no core dumps, no written files."""
    wanted = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0)]
    if sys.platform == "linux":
        with open("/proc/self/statm") as statm:
            pages = int(statm.read().split()[0])
        wanted.append((resource.RLIMIT_AS, pages * resource.getpagesize() + (memory_mb << 20)))
    for which, value in wanted:
        with contextlib.suppress(ValueError, OSError):  # a container may already allow less
            resource.setrlimit(which, (value, value))


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Second line of defence: an action that no check needs ends the worker at once."""
    if event == "open":
        refused = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    elif event == "compile":
        # dataclasses and sympy's polynomials generate function definitions; any other code is evaluated text.
        source, filename = arguments
        generated = isinstance(source, bytes | str) and source[:4] in (b"def ", "def ")
        refused = source is not None and not generated and not str(filename).endswith(".py")
    else:
        refused = event.startswith(_FORBIDDEN_EVENTS) and event not in ("socket.sethostname", "socket.__new__")
    if refused:
        os._exit(FORBIDDEN_EXIT)

"""The first code inside a sandbox: waits for a program on stdin, limits itself, and becomes that program.

Runs from a copy in a root without r1rl, so it imports the standard library only. It writes one line to stderr, the CPU
time so far, before it reads anything, and nothing afterwards: stdout, stderr and the exit status are the program's, and
the rest of stdin is its input. There is nothing else to take over, read or forge: no other descriptor, no environment,
no expected output.

On stdin: ``header``, the program (UTF-8 source, or an executable file), its input.
"""

from __future__ import annotations

# What starts every program is as little as possible; more imports would cost more than the sandbox.
import builtins
import os
import resource
import sys
import time
from _sitebuiltins import Quitter

HEADER_BYTES = 128
COMPILE_EXIT = 65
"""Exit status of a program that does not compile. A program may end with it, too, and fails by that name."""
_BINARY = "/tmp/program"


def header(is_source: bool, length: int, input_from: int, *limits: int) -> bytes:
    """The first ``HEADER_BYTES`` on stdin, as ASCII numbers.

    Args:
        length: bytes of the program that follows.
        input_from: the descriptor of the program's input; 0 for the rest of stdin.
        limits: as ``_limit`` takes them.
    """
    return b" ".join(b"%d" % number for number in (is_source, length, input_from, *limits)).ljust(HEADER_BYTES)


def main() -> None:
    """Announce readiness, then run the program."""
    os.environ.clear()
    os.write(2, b"%.6f\n" % time.process_time())
    try:
        is_source, length, input_from, *limits = map(int, _exactly(HEADER_BYTES).split())
        program = _exactly(length)
    except EOFError:  # the pool was closed
        os._exit(0)
    if input_from:
        os.dup2(input_from, 0)
    os.closerange(3, 1 << 20)
    _limit(*limits)
    if is_source:
        _run_source(program)
    else:
        _run_binary(program)


def _exactly(count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        chunk = os.read(0, min(count - len(data), 1 << 20))
        if not chunk:
            raise EOFError
        data += chunk
    return bytes(data)


def _limit(cpu_ms: int, memory_mb: int, threads: int, open_files: int, tmp_mb: int, stack_mb: int) -> None:
    """Set limits that the program cannot raise again."""
    values = {
        resource.RLIMIT_CPU: int(time.process_time() + cpu_ms / 1000) + 1,
        resource.RLIMIT_AS: memory_mb << 20,
        resource.RLIMIT_NPROC: threads,
        resource.RLIMIT_NOFILE: open_files,
        resource.RLIMIT_FSIZE: tmp_mb << 20,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_NICE: 0,
        resource.RLIMIT_RTPRIO: 0,
        resource.RLIMIT_SIGPENDING: 256,
    }
    for which, value in values.items():
        hard = resource.getrlimit(which)[1]
        lower = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (lower, lower))
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if hard == resource.RLIM_INFINITY or hard > stack_mb << 20:
        resource.setrlimit(resource.RLIMIT_STACK, (min(soft, stack_mb << 20), stack_mb << 20))


def _run_source(source: bytes) -> None:
    """Execute source text as the module ``__main__``."""
    try:
        code = compile(source, "program.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode("utf-8", "replace"))
        os._exit(COMPILE_EXIT)
    for name in ("exit", "quit"):  # which -S leaves out, and solutions use
        setattr(builtins, name, Quitter(name, "the end of its input"))
    sys.argv[:] = ["program.py"]
    module = type(sys)("__main__")
    module.__file__ = "program.py"
    sys.modules["__main__"] = module
    exec(code, module.__dict__)


def _run_binary(binary: bytes) -> None:
    """Replace this process with an executable, whose stack may grow to the limit."""
    with open(_BINARY, "wb") as file:
        file.write(binary)
    os.chmod(_BINARY, 0o500)
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    resource.setrlimit(resource.RLIMIT_STACK, (hard, hard))
    os.execve(_BINARY, ["program"], {})


if __name__ == "__main__":
    main()

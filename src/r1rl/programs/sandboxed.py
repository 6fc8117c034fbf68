"""One sandbox from start to end: started ahead, given a program, attended to, judged, gone."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import IO

from r1rl.errors import SandboxError
from r1rl.programs.bootstrap import COMPILE_EXIT
from r1rl.programs.isolation import Cell, Isolation
from r1rl.programs.types import Execution, ProgramLimits, ProgramVerdict

_START_S = 60.0
"""Longest start of an interpreter, which takes 30 ms on an idle machine."""
_END_S = 60.0
"""Longest wait for a killed sandbox to be gone."""
_CHUNK = 1 << 16
_BY_SIGNAL = {
    signal.SIGSYS: ProgramVerdict.FORBIDDEN,
    signal.SIGXCPU: ProgramVerdict.TIME,
    signal.SIGXFSZ: ProgramVerdict.OUTPUT,
    signal.SIGKILL: ProgramVerdict.MEMORY,  # nothing inside can send it; the kernel's out-of-memory killer does
}
_OUT_OF_MEMORY = ("MemoryError", "std::bad_alloc", "Cannot allocate memory")


class ProgramSandbox:
    """A sandbox and, once ``give`` was called, the execution of a program in it.

    Args:
        input: a descriptor that the process inside inherits, for programs whose input comes from there.
        stdout: a descriptor for its stdout, which this process then does not read.
    """

    def __init__(self, isolation: Isolation, cell: Cell, input: int | None = None, stdout: int | None = None) -> None:
        info, theirs = os.pipe()
        self._own_peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            self._process = isolation.start(cell, theirs, input, subprocess.PIPE if stdout is None else stdout)
        except OSError as error:
            os.close(info)
            raise SandboxError(f"cannot start {isolation.name}: {error.strerror or error}") from error
        finally:
            os.close(theirs)
        self._lock = threading.Lock()
        """Held while its process is killed, which any thread may do, and while its descriptors are closed."""
        self._closed = False
        self._info = info
        self._outside = os.pidfd_open(self._process.pid)
        self._inside: int | None = None
        self._start_cpu_s = 0.0
        self._pending = memoryview(b"")
        self._stdin: IO[bytes] | None = self._process.stdin
        self._read: dict[IO[bytes] | None, bytearray] = {}
        self._stopped = False
        self._failure: ProgramVerdict | None = None
        self._limits = ProgramLimits()
        self._given = time.monotonic()

    # ------------------------------------------------------------------------------------------------------ the start

    def ready(self) -> None:
        """Wait until the process inside has started. Raises: SandboxError if it does not, or has ended."""
        line = self._first_line()
        try:
            self._start_cpu_s = float(line) + _cpu_s(self._process.pid)
        except ValueError:
            message = self._last_line(line) or "it ended without a message"
            raise SandboxError(f"a sandbox did not start: {message}") from None
        if self.ended():
            raise SandboxError("a sandbox was killed from outside before it was used")

    def _first_line(self) -> bytes:
        """What is on stderr up to the first line break, end of file, or the longest start."""
        line, deadline = b"", time.monotonic() + _START_S
        stderr = self._stderr.fileno()
        while not line.endswith(b"\n") and _readable([stderr], max(0.0, deadline - time.monotonic())):
            byte = os.read(stderr, 1)
            if not byte:
                return line
            line += byte
        return line if line.endswith(b"\n") else b"it took longer than %d s" % _START_S

    def _last_line(self, start: bytes) -> str:
        """The last line on stderr of a sandbox that failed to start: what is wrong, in bubblewrap and in Python."""
        self._kill()
        said = bytearray(start)
        while _readable([self._stderr.fileno()], _END_S) and (chunk := os.read(self._stderr.fileno(), _CHUNK)):
            said += chunk
        return said.decode("utf-8", "replace").strip().rpartition("\n")[2]

    @property
    def _stderr(self) -> IO[bytes]:
        assert self._process.stderr is not None
        return self._process.stderr

    # -------------------------------------------------------------------------------------------------- the execution

    def give(self, data: bytes, limits: ProgramLimits) -> None:
        """Start an execution: ``data`` will be written to its stdin, which is then closed."""
        self._pending = memoryview(data)
        self._limits = limits
        self._given = time.monotonic()
        self._read = {stream: bytearray() for stream in (self._process.stdout, self._stderr) if stream is not None}
        for stream in (self._stdin, *self._read):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)

    def register(self, selector: selectors.BaseSelector) -> None:
        """Announce everything that ``step`` has to react to."""
        if self._stdin is not None:
            selector.register(self._stdin, selectors.EVENT_WRITE, self)
        for stream in filter(None, self._read):
            selector.register(stream, selectors.EVENT_READ, self)
        selector.register(self._outside, selectors.EVENT_READ, self)

    def step(self, stream: int | IO[bytes], selector: selectors.BaseSelector) -> None:
        """Read or write what is possible now; forget a stream that has ended."""
        if isinstance(stream, int):  # the process outside has ended
            done = True
        else:
            done = self._write() if stream is self._stdin else self._read_some(stream)
        if done:
            selector.unregister(stream)
        if done and not isinstance(stream, int) and stream is self._stdin:
            stream.close()
            self._stdin = None

    def _write(self) -> bool:
        """Write some of the input; whether nothing is left, or nobody reads it."""
        try:
            while self._pending and self._stdin is not None:
                self._pending = self._pending[os.write(self._stdin.fileno(), self._pending[:_CHUNK]) :]
        except BlockingIOError:
            return False
        except BrokenPipeError:
            pass
        return True

    def _read_some(self, stream: IO[bytes]) -> bool:
        """Read some of the output; whether it has ended."""
        try:
            chunk = os.read(stream.fileno(), _CHUNK)
        except BlockingIOError:
            return False
        had = self._read[stream]
        had += chunk[: (self._limits.output_kb << 10) - len(had) + 1]
        if len(had) > self._limits.output_kb << 10:
            self.stop(ProgramVerdict.OUTPUT)
        return not chunk

    def stop(self, failure: ProgramVerdict | None) -> None:
        """Kill the execution for this reason, unless it was stopped before; None if it is not at fault."""
        self._stopped = True
        self._failure = self._failure or failure
        self._kill()

    def ended(self) -> bool:
        """Whether nothing of it is left."""
        return _readable([self._outside], 0)

    # -------------------------------------------------------------------------------------------------------- the end

    def end(self) -> Execution:
        """Kill what is left, wait until it is gone, and judge. Raises: SandboxError if it cannot be killed."""
        self._kill()
        if not _readable([self._outside], _END_S):
            raise SandboxError(f"a sandbox (process {self._process.pid}) is not gone {_END_S:g} s after SIGKILL")
        _, status, used = os.wait4(self._process.pid, 0)
        wall_s = time.monotonic() - self._given
        self._process.returncode = code = os.waitstatus_to_exitcode(status)
        code = 128 - code if 128 < code < 128 + signal.NSIG else code
        cpu_s = max(0.0, used.ru_utime + used.ru_stime - self._start_cpu_s)
        # Linux counts the memory of this process, too, of which the other was forked.
        peak_mb = used.ru_maxrss / 1024 if used.ru_maxrss > self._own_peak_kb else 0.0
        stopped = self._failure is not None or (
            self._stopped and code == -signal.SIGKILL and cpu_s < self._limits.cpu_s  # else the kernel's own limit
        )
        self._close()
        stdout, stderr = (data.decode("utf-8", "replace") for data in (self.stdout, self._output(self._stderr)))
        return Execution(
            failure=self._failure if stopped else self._judge(code, cpu_s, peak_mb, stderr),
            stdout=stdout,
            stderr=stderr,
            exit_code=None if stopped else code,
            wall_s=wall_s,
            cpu_s=cpu_s,
            peak_mb=peak_mb,
        )

    @property
    def stdout(self) -> bytes:
        """What was written to stdout, up to the limit."""
        return self._output(self._process.stdout)

    def _output(self, stream: IO[bytes] | None) -> bytes:
        return bytes(self._read[stream][: self._limits.output_kb << 10]) if stream in self._read else b""

    def _judge(self, code: int, cpu_s: float, peak_mb: float, stderr: str) -> ProgramVerdict | None:
        """Why it failed, by the evidence that it could not forge first."""
        if cpu_s >= self._limits.cpu_s:
            return ProgramVerdict.TIME
        if code == 0:
            return None
        if -code in _BY_SIGNAL:
            return _BY_SIGNAL[signal.Signals(-code)]
        if code == COMPILE_EXIT:
            return ProgramVerdict.COMPILE
        last = stderr.strip().rpartition("\n")[2]
        if peak_mb > 0.9 * self._limits.memory_mb or any(sign in last for sign in _OUT_OF_MEMORY):
            return ProgramVerdict.MEMORY
        return ProgramVerdict.RUNTIME_ERROR

    def _kill(self) -> None:
        """Kill the first process inside, and the kernel all others with it."""
        with self._lock, contextlib.suppress(ProcessLookupError):
            if self._closed:
                return
            if self._inside is None:
                self._inside = self._first_process()
            signal.pidfd_send_signal(self._outside if self._inside < 0 else self._inside, signal.SIGKILL)

    def _first_process(self) -> int:
        """A descriptor of the first process inside; -1 if there is none. Its id is valid until its parent outside has
        waited for it, and its parent ends right after."""
        _readable([self._info, self._outside], _START_S)
        os.set_blocking(self._info, False)
        try:
            message = os.read(self._info, _CHUNK)
            found = os.pidfd_open(json.loads(message)["child-pid"])
        except (OSError, ValueError):
            return -1
        if self.ended():  # the id may belong to somebody else
            os.close(found)
            return -1
        return found

    def _close(self) -> None:
        with self._lock:
            self._closed = True
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                if stream is not None:
                    stream.close()
            for descriptor in (self._info, self._outside, self._inside):
                if descriptor is not None and descriptor >= 0:
                    os.close(descriptor)


def attend(sandboxes: Sequence[ProgramSandbox], wall_s: float) -> None:
    """Carry input and output until the first of these has ended; the others are stopped then. After ``wall_s`` seconds
    all are. Raises: SandboxError if one cannot be killed."""
    deadline, stopping = time.monotonic() + wall_s, False
    with selectors.DefaultSelector() as selector:
        for sandbox in sandboxes:
            sandbox.register(selector)
        while selector.get_map():
            for key, _ in selector.select(max(0.0, deadline - time.monotonic())):
                key.data.step(key.fileobj, selector)
            late, ended = time.monotonic() >= deadline, sandboxes[0].ended()
            if late and stopping:
                raise SandboxError(f"a sandbox still runs {_END_S:g} s after SIGKILL")
            if stopping or not (late or ended):
                continue
            stopping, deadline = True, time.monotonic() + _END_S
            for sandbox in sandboxes[1:] if ended else sandboxes:
                sandbox.stop(None if ended else ProgramVerdict.TIME)


class Sandboxes:
    """Starts sandboxes in one way, and can end all that are left; thread-safe."""

    def __init__(self, isolation: Isolation) -> None:
        self._isolation = isolation
        self._lock = threading.Lock()
        self._alive: set[ProgramSandbox] = set()
        self._closed = False

    def start(self, cell: Cell, input: int | None = None, stdout: int | None = None) -> ProgramSandbox:
        """A sandbox that is starting. Raises: SandboxError."""
        with self._lock:
            if self._closed:
                raise SandboxError("this pool of sandboxes is closed")
            sandbox = ProgramSandbox(self._isolation, cell, input, stdout)
            self._alive.add(sandbox)
            return sandbox

    def end(self, sandbox: ProgramSandbox) -> Execution:
        """End one of them and judge what it did."""
        try:
            return sandbox.end()
        finally:
            with self._lock:
                self._alive.discard(sandbox)

    def kill(self) -> None:
        """Kill all, and start no more. Those who use them still have to ``end`` them."""
        with self._lock:
            self._closed = True
            for sandbox in self._alive:
                sandbox.stop(None)

    def end_all(self) -> None:
        """End those that nobody uses any more."""
        while self._alive:
            self._alive.pop().end()


def _cpu_s(pid: int) -> float:
    """Processor time of a process so far, in seconds; 0 where the kernel does not say."""
    try:
        with open(f"/proc/{pid}/schedstat") as file:
            return int(file.read().split()[0]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def _readable(descriptors: Sequence[int], timeout_s: float) -> bool:
    """Whether one of these is readable, or ended, within this time."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))

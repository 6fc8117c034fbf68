"""What every back end that runs programs takes and returns: program, limits, execution, verdict.

A runner executes; it compares nothing and never sees an expected output. Whoever asks compares ``Execution.stdout``, or
lets a program of its own do it (``Interactive``), and then names the verdict.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self, runtime_checkable


class ProgramVerdict(StrEnum):
    """How a program did on one test, by the names that judges use."""

    PASSED = "passed"
    WRONG = "wrong"
    """It ended normally, and its output is not the expected one."""
    RUNTIME_ERROR = "runtime_error"
    """An uncaught exception, a signal or an exit code other than 0."""
    TIME = "time"
    """CPU or wall time."""
    MEMORY = "memory"
    OUTPUT = "output"
    """It wrote more to stdout or stderr than allowed."""
    COMPILE = "compile"
    """It could not be compiled; for Python, a syntax error."""
    FORBIDDEN = "forbidden"
    """It attempted a system call that no solution needs: a socket, ptrace, a mount, another process."""


@dataclass(frozen=True, slots=True)
class Program:
    """Source text, run as a main program."""

    source: str
    language: str = "python"
    """A name in ``Runner.languages``."""


@dataclass(frozen=True, slots=True)
class ProgramLimits:
    """ProgramLimits of one execution, all of its threads and processes included."""

    cpu_s: float = 4.0
    """Processor time in seconds."""
    wall_s: float = 12.0
    """Time by the clock in seconds, which a program that sleeps or waits for input reaches."""
    memory_mb: int = 512
    """Address space."""
    threads: int = 16
    """Threads at one time, the first included. Other processes are forbidden."""
    tmp_mb: int = 16
    """Everything written to its private /tmp, which is also its working directory. Cannot be raised per call."""
    open_files: int = 64
    output_kb: int = 1024
    """Each of stdout and stderr."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One run of one program on one input."""

    failure: ProgramVerdict | None
    """None if the program ended by itself with exit code 0, within its limits. Never ``PASSED`` or ``WRONG``."""
    stdout: str
    """Decoded as UTF-8, with U+FFFD for what is not."""
    stderr: str
    """As stdout; the compiler's messages if ``failure`` is ``COMPILE``."""
    exit_code: int | None
    """As ``subprocess`` gives it: negative for a signal. None if the program was stopped, or never started."""
    wall_s: float
    """From handing over the program to its end."""
    cpu_s: float
    """Processor time of the program, where the back end reports it, else 0."""
    peak_mb: float
    """Largest resident memory, where the back end reports it, else 0."""


class Runner(Protocol):
    """Runs programs, several side by side. All methods are thread-safe."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages that this runner can run, as in ``Program.language``."""
        ...

    def submit(self, program: Program, stdin: str = "", limits: ProgramLimits | None = None) -> Future[Execution]:
        """Run a program as soon as a place is free. What the program does never raises.

        A future that has not started can be cancelled. Its exceptions: R1Error if the back end itself fails.

        Args:
            limits: instead of the runner's own.

        Raises: R1Error for a language that the runner does not have, or a closed runner.
        """
        ...

    def run(self, program: Program, stdin: str = "", limits: ProgramLimits | None = None) -> Execution:
        """As ``submit``, and wait for the result."""
        ...

    def close(self) -> None:
        """End every program and every process of the runner. Futures that have not started are cancelled."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class Interactive(Protocol):
    """A runner that can connect two programs, each in a sandbox of its own."""

    def interact(
        self, judge: Program, program: Program, limits: ProgramLimits | None = None
    ) -> Future[tuple[Execution, Execution]]:
        """Run two programs with the stdout of each connected to the stdin of the other.

        For tests whose inputs or expected outputs the program must not see, such as assert blocks: the judge holds them
        in its source, asks over its stdout, reads the answers from its stdin, and ends with exit code 0 or another.
        ``limits`` hold for each of the two. The program is stopped when the judge ends; when it ends first, the judge
        reads an end of file. Futures and errors are those of ``Runner.submit``.

        Returns: the executions of judge and program, in this order; ``stdout`` is empty in both. If one of the two does
            not compile, both are the compiler's. The program that was stopped because the judge ended has no
            ``failure`` and no ``exit_code``.
        """
        ...

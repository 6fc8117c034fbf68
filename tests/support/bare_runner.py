"""A runner without any isolation, for tests whose programs are their own: it has the interface, and starts anywhere."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from r1rl.programs.types import Execution, Program, ProgramLimits, ProgramVerdict

_COMMAND = [
    sys.executable,
    "-I",
    "-c",
    "import sys; exec(compile(sys.argv[1], 'main.py', 'exec'), {'__name__': '__main__'})",
]


class BareRunner:
    """Runs programs as child processes within the wall limit alone."""

    languages = ("python",)

    def __init__(self, workers: int = 2, limits: ProgramLimits | None = None) -> None:
        self._threads = ThreadPoolExecutor(workers)
        self._limits = limits or ProgramLimits()

    def submit(self, program: Program, stdin: str = "", limits: ProgramLimits | None = None) -> Future[Execution]:
        return self._threads.submit(self.run, program, stdin, limits)

    def run(self, program: Program, stdin: str = "", limits: ProgramLimits | None = None) -> Execution:
        wall_s = (limits or self._limits).wall_s
        child, started = _start(program), time.monotonic()
        try:
            out, err = child.communicate(stdin.encode(), timeout=wall_s)
        except subprocess.TimeoutExpired:
            child.kill()
            out, err = child.communicate()
            return _execution(None, out, err, started, ProgramVerdict.TIME)
        return _execution(child.returncode, out, err, started)

    def interact(
        self, judge: Program, program: Program, limits: ProgramLimits | None = None
    ) -> Future[tuple[Execution, Execution]]:
        return self._threads.submit(self._interact, judge, program, limits)

    def _interact(self, judge: Program, program: Program, limits: ProgramLimits | None) -> tuple[Execution, Execution]:
        started = time.monotonic()
        first = _start(judge)
        second = _start(program, stdin=first.stdout, stdout=first.stdin)
        for end in (first.stdin, first.stdout):
            assert end is not None
            end.close()
        first.stdin = first.stdout = None
        failure = None
        try:
            _, err = first.communicate(timeout=(limits or self._limits).wall_s)
        except subprocess.TimeoutExpired:
            failure = ProgramVerdict.TIME
            first.kill()
            _, err = first.communicate()
        judged = _execution(None if failure else first.returncode, b"", err, started, failure)
        second.terminate()
        _, err = second.communicate()
        return judged, _execution(second.returncode, b"", err, started, failure)

    def close(self) -> None:
        self._threads.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _start(program: Program, stdin: Any = subprocess.PIPE, stdout: Any = subprocess.PIPE) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*_COMMAND, program.source], stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, start_new_session=True
    )


def _execution(
    code: int | None, out: bytes, err: bytes, started: float, failure: ProgramVerdict | None = None
) -> Execution:
    failed = failure or (ProgramVerdict.RUNTIME_ERROR if code else None)
    texts = [data.decode("utf-8", "replace") for data in (out, err)]
    return Execution(failed, *texts, code, time.monotonic() - started, 0.0, 0.0)

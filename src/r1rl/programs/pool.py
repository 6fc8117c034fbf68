"""A warm pool of sandboxes: interpreters started ahead, for one program each, and thrown away after it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from r1rl.errors import SandboxError
from r1rl.programs import languages, seccomp
from r1rl.programs.bootstrap import header
from r1rl.programs.choice import choose
from r1rl.programs.compiling import Compiler
from r1rl.programs.isolation import PYTHON, Cell, Isolation
from r1rl.programs.languages import LANGUAGES
from r1rl.programs.roots import BOOTSTRAP, Roots
from r1rl.programs.sandboxed import ProgramSandbox, Sandboxes, attend
from r1rl.programs.types import Execution, Program, ProgramLimits

_ATTEMPTS = 3
_STACK_MB = 256
"""Largest stack of the first thread; recursion of compiled programs is deep as a rule."""


class SandboxPool:
    """Runs programs on this machine, ``workers`` side by side; a ``Runner`` that is ``Interactive``.

    Each worker is a thread that keeps one sandbox with an interpreter ready. The thread starts its sandboxes itself:
    they end with it, however this process ends.

    Args:
        limits: of programs for which none are given.
        isolation: how to isolate; the best that works here by default.

    Raises: SandboxError if nothing isolates here; it says what to install.
    """

    def __init__(
        self, workers: int = 2, limits: ProgramLimits | None = None, isolation: Isolation | None = None
    ) -> None:
        self.limits = limits or ProgramLimits()
        self._owner = os.getpid()
        self._closed = False
        self._roots = Roots()
        self._cell = interpreter_cell(self._roots, self.limits)
        self.isolation = isolation or choose(self._roots, self._cell)
        self._sandboxes = Sandboxes(self.isolation)
        self._compiler = Compiler(self._sandboxes, self._roots)
        self._worker = threading.local()
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="r1rl-program")

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages that this machine can run."""
        return languages.available()

    def submit(self, program: Program, stdin: str = "", limits: ProgramLimits | None = None) -> Future[Execution]:
        """See ``Runner.submit``."""
        self._check(program)
        return self._later(self._execute, program, stdin, limits or self.limits)

    def run(self, program: Program, stdin: str = "", limits: ProgramLimits | None = None) -> Execution:
        """See ``Runner.run``."""
        return self.submit(program, stdin, limits).result()

    def interact(
        self, judge: Program, program: Program, limits: ProgramLimits | None = None
    ) -> Future[tuple[Execution, Execution]]:
        """See ``Interactive.interact``."""
        self._check(judge)
        self._check(program)
        return self._later(self._connect, judge, program, limits or self.limits)

    def close(self) -> None:
        """See ``Runner.close``."""
        if os.getpid() != self._owner:
            return
        self._closed = True
        self._sandboxes.kill()
        self._threads.shutdown(cancel_futures=True)
        self._sandboxes.end_all()
        self._roots.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, program: Program) -> None:
        if self._closed or os.getpid() != self._owner:
            raise SandboxError("this pool of sandboxes is closed, or belongs to another process; make a new one")
        if program.language not in LANGUAGES:
            raise SandboxError(f"no language is called {program.language!r}; there are: {', '.join(LANGUAGES)}")
        if program.language not in self.languages:
            language = LANGUAGES[program.language]
            raise SandboxError(f"{program.language} programs need {language.compiler}: {language.install}")

    def _later(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        try:
            return self._threads.submit(work, *arguments)
        except RuntimeError as error:  # closed meanwhile
            raise SandboxError("this pool of sandboxes is closed; make a new one") from error

    # ----------------------------------------------------------------------------------------------- in worker threads

    def _execute(self, program: Program, stdin: str, limits: ProgramLimits) -> Execution:
        body = self._body(program)
        if isinstance(body, Execution):
            return body
        sandbox = self._take()
        try:
            sandbox.give(_package(program, body, limits) + stdin.encode("utf-8", "replace"), limits)
            self._worker.warm = self._sandboxes.start(self._cell)
            attend([sandbox], limits.wall_s)
        finally:
            execution = self._sandboxes.end(sandbox)
        return execution

    def _connect(self, judge: Program, program: Program, limits: ProgramLimits) -> tuple[Execution, Execution]:
        bodies = []
        for one in (judge, program):
            body = self._body(one)
            if isinstance(body, Execution):
                return body, body
            bodies.append(body)
        judge_in, program_out = os.pipe()
        program_in, judge_out = os.pipe()
        sandboxes: list[ProgramSandbox] = []
        try:
            try:
                sandboxes.append(self._sandboxes.start(self._cell, judge_in, judge_out))
                sandboxes.append(self._sandboxes.start(self._cell, program_in, program_out))
            finally:
                for descriptor in (judge_in, program_out, program_in, judge_out):
                    os.close(descriptor)
            for sandbox in sandboxes:
                sandbox.ready()
            sandboxes[0].give(_package(judge, bodies[0], limits, judge_in), limits)
            sandboxes[1].give(_package(program, bodies[1], limits, program_in), limits)
            attend(sandboxes, limits.wall_s)
        finally:
            executions = [self._sandboxes.end(sandbox) for sandbox in sandboxes]
        return executions[0], executions[1]

    def _body(self, program: Program) -> bytes | Execution:
        """What runs: source text, or an executable; an execution if there is none."""
        if LANGUAGES[program.language].compiler:
            return self._compiler.binary(program)
        return program.source.encode("utf-8", "replace")

    def _take(self) -> ProgramSandbox:
        """This thread's sandbox, once its interpreter is ready; a new one for one that is broken."""
        for attempt in range(1, _ATTEMPTS + 1):
            sandbox = self._worker.__dict__.pop("warm", None) or self._sandboxes.start(self._cell)
            try:
                sandbox.ready()
                return sandbox
            except SandboxError:
                self._sandboxes.end(sandbox)
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError


def _package(program: Program, body: bytes, limits: ProgramLimits, input_from: int = 0) -> bytes:
    """What the bootstrap reads before the program's input."""
    first = header(
        not LANGUAGES[program.language].compiler,
        len(body),
        input_from,
        round(limits.cpu_s * 1000),
        limits.memory_mb,
        limits.threads,
        limits.open_files,
        limits.tmp_mb,
        _STACK_MB,
    )
    return first + body


def interpreter_cell(roots: Roots, limits: ProgramLimits) -> Cell:
    """A sandbox with an interpreter that waits for a program."""
    return Cell(
        root=roots.python,
        command=(roots.interpreter, *PYTHON, BOOTSTRAP),
        tmp_mb=limits.tmp_mb,
        filter=seccomp.program_filter() if seccomp.offered() else None,
    )

"""Compiles programs in sandboxes of their own, each source text once."""

from __future__ import annotations

import shlex
import threading
from collections import OrderedDict
from concurrent.futures import Future

from r1rl.errors import SandboxError
from r1rl.programs import seccomp
from r1rl.programs.isolation import Cell
from r1rl.programs.languages import LANGUAGES
from r1rl.programs.roots import Roots
from r1rl.programs.sandboxed import Sandboxes, attend
from r1rl.programs.types import Execution, Program, ProgramLimits, ProgramVerdict

_LIMITS = ProgramLimits(cpu_s=60, wall_s=120, memory_mb=2048, threads=64, tmp_mb=256, output_kb=64 << 10)
_KEPT = 64
"""Executables, of about 2 MB each."""
_WAIT_S = _LIMITS.wall_s + 180
_SCRIPT = """
echo 0 >&2
export PATH=/usr/bin LC_ALL=C
prlimit --core=0 --cpu={cpu} --as={memory} --nproc={processes} --fsize={file} -- {command} || exit
cat /tmp/program
"""
"""The first line is what the bootstrap of an interpreter says when it is ready: CPU time so far."""


class Compiler:
    """Executables of the programs compiled last; thread-safe."""

    def __init__(self, sandboxes: Sandboxes, roots: Roots) -> None:
        self._sandboxes = sandboxes
        self._roots = roots
        self._lock = threading.Lock()
        self._results: OrderedDict[Program, Future[bytes | Execution]] = OrderedDict()

    def binary(self, program: Program) -> bytes | Execution:
        """An executable file, or the execution of a compiler that failed.

        Raises: SandboxError if the compiler fails on a program that it has to accept.
        """
        language = LANGUAGES[program.language]
        probed = self._once(Program(language.probe, program.language))
        if isinstance(probed, Execution):
            said = probed.stderr.strip().rpartition("\n")[2]
            raise SandboxError(f"{language.compiler} does not work in a sandbox: {said}; {language.install}")
        return self._once(program)

    def _once(self, program: Program) -> bytes | Execution:
        """The result of the first who asks; others wait for it."""
        with self._lock:
            result = self._results.get(program)
            is_first = result is None
            if result is None:
                result = self._results[program] = Future()
            self._results.move_to_end(program)
            while len(self._results) > _KEPT:
                self._results.popitem(last=False)
        if is_first:
            try:
                result.set_result(self._compile(program))
            except BaseException as error:
                result.set_exception(error)
                raise
        return result.result(_WAIT_S)

    def _compile(self, program: Program) -> bytes | Execution:
        sandbox = self._sandboxes.start(self._cell(program.language))
        try:
            sandbox.ready()
            sandbox.give(program.source.encode("utf-8", "replace"), _LIMITS)
            attend([sandbox], _LIMITS.wall_s)
        finally:
            execution = self._sandboxes.end(sandbox)
        if execution.failure is None:
            return sandbox.stdout
        return Execution(
            failure=ProgramVerdict.COMPILE,
            stdout="",
            stderr=execution.stderr or f"the compiler was stopped: {execution.failure}",
            exit_code=execution.exit_code,
            wall_s=execution.wall_s,
            cpu_s=execution.cpu_s,
            peak_mb=execution.peak_mb,
        )

    def _cell(self, name: str) -> Cell:
        language = LANGUAGES[name]
        script = _SCRIPT.format(
            cpu=int(_LIMITS.cpu_s),
            memory=_LIMITS.memory_mb << 20,
            processes=_LIMITS.threads,
            file=_LIMITS.tmp_mb << 20,
            command=shlex.join([f"/usr/bin/{language.compiler}", *language.options]),
        )
        return Cell(
            root=self._roots.compiler,
            command=("/bin/sh", "-c", script),
            tmp_mb=_LIMITS.tmp_mb,
            filter=seccomp.compiler_filter() if seccomp.offered() else None,
            mounts=tuple(self._roots.compiler_mounts()),
        )

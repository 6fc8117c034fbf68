"""Programs run in E2B's cloud sandboxes (e2b.dev), each program in a sandbox of its own."""

from __future__ import annotations

import importlib
import shlex
import time
from typing import Any

from r1rl.errors import SandboxError
from r1rl.programs.threaded import ThreadedRunner
from r1rl.programs.types import Execution, Program, ProgramLimits, ProgramVerdict

_COMMANDS = {"python": "python3 main", "cpp": "g++ -x c++ -std=c++17 -O2 -o program main && exec ./program"}
_MARGIN_S = 60.0
_OUT_OF_TIME, _KILLED = 124, 137


class E2B(ThreadedRunner):
    """A ``Runner`` on E2B, without internet access for the programs. Its client takes the key from ``E2B_API_KEY``.

    It cannot connect two programs, so that assert blocks which are more than calls compared with literals are not
    judged there.

    Args:
        workers: sandboxes at one time; an account has a limit.
        template: the sandbox template; None takes E2B's default.

    Raises: SandboxError if the client is not installed.
    """

    languages = tuple(_COMMANDS)
    _name = "E2B"

    def __init__(self, workers: int = 8, limits: ProgramLimits | None = None, *, template: str | None = None) -> None:
        self._template = template
        try:
            self._client: Any = importlib.import_module("e2b")
        except ImportError as error:
            raise SandboxError(f"E2B's client is not installed ({error}); run: pip install e2b") from error
        super().__init__(workers, limits)

    def _execute(self, program: Program, stdin: str, limits: ProgramLimits) -> Execution:
        lifetime_s = round(limits.wall_s + _MARGIN_S)
        try:
            sandbox = self._client.Sandbox.create(
                template=self._template, timeout=lifetime_s, allow_internet_access=False
            )
        except Exception as error:  # the client's own, of many kinds
            raise SandboxError(f"E2B gave no sandbox: {type(error).__name__}: {error}") from error
        try:
            return self._within(sandbox, program, stdin, limits)
        finally:
            sandbox.kill()

    def _within(self, sandbox: Any, program: Program, stdin: str, limits: ProgramLimits) -> Execution:
        limited = f"ulimit -v {limits.memory_mb << 10} -t {max(1, round(limits.cpu_s))}; {_COMMANDS[program.language]}"
        command = f"timeout -s KILL {limits.wall_s:g} bash -c {shlex.quote(limited)} < stdin"
        began = time.monotonic()
        try:
            sandbox.files.write("main", program.source)
            sandbox.files.write("stdin", stdin)
            ran = sandbox.commands.run(command, timeout=limits.wall_s + _MARGIN_S / 2)
        except self._client.CommandExitException as error:
            ran = error
        except self._client.TimeoutException:
            return Execution(ProgramVerdict.TIME, "", "", None, time.monotonic() - began, 0.0, 0.0)
        except Exception as error:
            raise SandboxError(f"E2B lost a sandbox: {type(error).__name__}: {error}") from error
        took_s, output = time.monotonic() - began, limits.output_kb << 10
        failure = _failure(ran.exit_code, ran.stderr)
        if len(ran.stdout) > output or len(ran.stderr) > output:
            failure = ProgramVerdict.OUTPUT
        return Execution(failure, ran.stdout[:output], ran.stderr[:output], ran.exit_code, took_s, 0.0, 0.0)


def _failure(code: int, stderr: str) -> ProgramVerdict | None:
    if code == 0:
        return None
    if code in (_OUT_OF_TIME, _KILLED):
        return ProgramVerdict.TIME
    last = stderr.strip().rpartition("\n")[2]
    if last.startswith(("SyntaxError:", "IndentationError:", "TabError:")):
        return ProgramVerdict.COMPILE
    return ProgramVerdict.MEMORY if last.startswith(("MemoryError", "std::bad_alloc")) else ProgramVerdict.RUNTIME_ERROR

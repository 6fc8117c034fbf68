"""What runners have in common whose programs run elsewhere: a thread waits for each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from r1rl.errors import SandboxError
from r1rl.programs.types import Execution, Program, ProgramLimits


class ThreadedRunner(ABC):
    """A ``Runner`` whose executions are calls that wait.

    Args:
        workers: executions at one time.
        limits: of programs for which none are given.
    """

    def __init__(self, workers: int, limits: ProgramLimits | None) -> None:
        self.limits = limits or ProgramLimits()
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="r1rl-remote-program")

    @property
    @abstractmethod
    def languages(self) -> tuple[str, ...]:
        """Languages that can be run, by r1rl's names."""

    @property
    @abstractmethod
    def _name(self) -> str:
        """The service, for messages."""

    @abstractmethod
    def _execute(self, program: Program, stdin: str, limits: ProgramLimits) -> Execution:
        """Run a program and wait for it; called in a thread. Raises: SandboxError."""

    def submit(self, program: Program, stdin: str = "", limits: ProgramLimits | None = None) -> Future[Execution]:
        """See ``Runner.submit``."""
        if program.language not in self.languages:
            known = ", ".join(self.languages) or "none"
            raise SandboxError(f"{self._name} has no {program.language}; it has: {known}")
        try:
            return self._threads.submit(self._execute, program, stdin, limits or self.limits)
        except RuntimeError as error:
            raise SandboxError("this runner is closed; make a new one") from error

    def run(self, program: Program, stdin: str = "", limits: ProgramLimits | None = None) -> Execution:
        """See ``Runner.run``."""
        return self.submit(program, stdin, limits).result()

    def close(self) -> None:
        """See ``Runner.close``."""
        self._threads.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

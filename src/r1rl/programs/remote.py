"""Programs run by a service over HTTP: Piston and SandboxFusion.

What they isolate is theirs. They cannot connect two programs, so that assert blocks which are more than calls compared
with literals are not judged there.
"""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import httpx

from r1rl.errors import SandboxError
from r1rl.programs.threaded import ThreadedRunner
from r1rl.programs.types import Execution, Program, ProgramLimits, ProgramVerdict

_RETRIED = frozenset((408, 425, 429, 500, 502, 503, 504))
_MARGIN_S = 30.0
"""Time for the service's own work, beyond the limits of compiler and program."""
_COMPILE_S = 30.0
_SYNTAX = ("SyntaxError:", "IndentationError:", "TabError:")


class HttpRunner(ThreadedRunner):
    """A ``Runner`` over HTTP; subclasses know what a service takes and returns.

    Args:
        workers: requests at one time.
        limits: of programs for which none are given.
        url: address of the service.
        retries: further attempts after a failed one, each after twice the wait.
        key_env: environment variable with a key that is sent as a bearer token; none is sent if it is not set.

    Raises: SandboxError if the service does not answer.
    """

    default_url: ClassVar[str]
    route: ClassVar[str]

    def __init__(
        self,
        workers: int = 8,
        limits: ProgramLimits | None = None,
        *,
        url: str | None = None,
        retries: int = 3,
        backoff_s: float = 1.0,
        key_env: str = "",
    ) -> None:
        super().__init__(workers, limits)
        self.url = (url or self.default_url).rstrip("/")
        self._retries, self._backoff_s = retries, backoff_s
        key = os.environ.get(key_env, "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(headers=headers, timeout=_MARGIN_S, limits=httpx.Limits(max_connections=workers))
        try:
            self._languages = self._look()
        except BaseException:
            self.close()
            raise

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages of the service, by r1rl's names."""
        return tuple(self._languages)

    @property
    def _name(self) -> str:
        return self.url

    def close(self) -> None:
        """See ``Runner.close``."""
        super().close()
        self._http.close()

    def _execute(self, program: Program, stdin: str, limits: ProgramLimits) -> Execution:
        body = self._request(program, stdin, limits)
        deadline_s = limits.wall_s + _COMPILE_S + _MARGIN_S
        for attempt in range(self._retries + 1):
            began = time.monotonic()
            try:
                reply = self._ask("POST", self.route, json=body, timeout=deadline_s)
                return self._execution(reply, limits, time.monotonic() - began)
            except _Unavailable as error:
                if attempt == self._retries:
                    raise SandboxError(f"{self.url} failed {attempt + 1} times, last: {error}") from error
                time.sleep(self._backoff_s * 2**attempt)
        raise AssertionError

    def _ask(self, method: str, route: str, **options: Any) -> Any:
        """The JSON of a reply. Raises: _Unavailable for what may pass, SandboxError for a request that is refused."""
        try:
            response = self._http.request(method, f"{self.url}{route}", **options)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise SandboxError(f"{self.url} is not an http:// or https:// address") from error
        except httpx.HTTPError as error:
            raise _Unavailable(f"{type(error).__name__} {error}".strip()) from error
        if response.status_code in _RETRIED:
            raise _Unavailable(f"status {response.status_code}")
        if response.status_code >= 400:
            raise SandboxError(f"{self.url}{route} refuses: {response.status_code} {response.text[:300]}")
        try:
            return response.json()
        except ValueError as error:
            raise _Unavailable(f"{route} returned something else than JSON: {response.text[:100]!r}") from error

    def _look(self) -> dict[str, str]:
        """The service's languages by r1rl's names. Raises SandboxError if it does not answer."""
        try:
            return self._offered()
        except _Unavailable as error:
            raise SandboxError(
                f"{type(self).__name__} does not answer at {self.url}: {error}; start it, or set url"
            ) from error

    @abstractmethod
    def _offered(self) -> dict[str, str]:
        """The service's names of languages by r1rl's."""

    @abstractmethod
    def _request(self, program: Program, stdin: str, limits: ProgramLimits) -> dict[str, Any]:
        """The body of a request."""

    @abstractmethod
    def _execution(self, reply: Any, limits: ProgramLimits, took_s: float) -> Execution:
        """What a reply says. Raises: _Unavailable for one that says that the service failed."""


class _Unavailable(Exception):
    """A failure that may pass."""


class Piston(HttpRunner):
    """Piston's API, version 2 (github.com/engineer-man/piston): ``url`` ends with ``/api/v2``.

    Its limits have to allow those of the programs: PISTON_RUN_TIMEOUT, PISTON_COMPILE_TIMEOUT (in ms) and
    PISTON_OUTPUT_MAX_SIZE. Networking has to be off there, as it is by default.
    """

    default_url = "http://localhost:2000/api/v2"
    route = "/execute"

    def _offered(self) -> dict[str, str]:
        names = {"python": "python", "c++": "cpp"}
        runtimes = self._ask("GET", "/runtimes")
        return {names[one["language"]]: one["language"] for one in runtimes if one["language"] in names}

    def _request(self, program: Program, stdin: str, limits: ProgramLimits) -> dict[str, Any]:
        return {
            "language": self._languages[program.language],
            "version": "*",
            "files": [{"name": "main.py" if program.language == "python" else "main.cpp", "content": program.source}],
            "stdin": stdin,
            "run_timeout": round(1000 * limits.wall_s),
            "compile_timeout": round(1000 * _COMPILE_S),
            "run_memory_limit": limits.memory_mb << 20,
        }

    def _execution(self, reply: Any, limits: ProgramLimits, took_s: float) -> Execution:
        compiled, ran = reply.get("compile") or {}, reply.get("run")
        if compiled.get("code") or compiled.get("signal"):
            return _made(ProgramVerdict.COMPILE, compiled, compiled.get("code"), took_s)
        if not isinstance(ran, Mapping):
            raise _Unavailable(f"a reply without a run: {str(reply)[:200]}")
        if "Resource temporarily unavailable" in (ran.get("stderr") or ""):
            raise _Unavailable("it is overloaded")
        wall_s = (ran.get("wall_time") or 1000 * took_s) / 1000
        failure = _PISTON.get(ran.get("status") or "") or _stopped(ran, wall_s, limits) or _failed(ran, ran.get("code"))
        used = {
            "wall_s": wall_s,
            "cpu_s": (ran.get("cpu_time") or 0) / 1000,
            "peak_mb": (ran.get("memory") or 0) / 2**20,
        }
        return _made(failure, ran, ran.get("code"), **used)


_PISTON = {"TO": ProgramVerdict.TIME, "OL": ProgramVerdict.OUTPUT, "EL": ProgramVerdict.OUTPUT}
"""Piston's newer status of a run; older versions have the signal alone."""


def _stopped(ran: Mapping[str, Any], wall_s: float, limits: ProgramLimits) -> ProgramVerdict | None:
    """Why Piston killed a program, where it has no status: time if the time is up, else memory."""
    if ran.get("signal") == "SIGKILL":
        return ProgramVerdict.TIME if wall_s >= 0.9 * limits.wall_s else ProgramVerdict.MEMORY
    return ProgramVerdict.RUNTIME_ERROR if ran.get("signal") else None


class SandboxFusion(HttpRunner):
    """SandboxFusion's ``/run_code`` (github.com/bytedance/SandboxFusion), which verl uses.

    Set ``isolation: lite`` in its configuration: without it programs see each other's files and the network.
    """

    default_url = "http://localhost:8080"
    route = "/run_code"

    def _offered(self) -> dict[str, str]:
        self._ask("GET", "/v1/ping")
        return {"python": "python", "cpp": "cpp"}

    def _request(self, program: Program, stdin: str, limits: ProgramLimits) -> dict[str, Any]:
        return {
            "code": program.source,
            "language": self._languages[program.language],
            "stdin": stdin,
            "run_timeout": limits.wall_s,
            "compile_timeout": _COMPILE_S,
            "memory_limit_MB": limits.memory_mb,
            "files": {},
            "fetch_files": [],
        }

    def _execution(self, reply: Any, limits: ProgramLimits, took_s: float) -> Execution:
        if reply.get("status") == "SandboxError":
            raise _Unavailable(str(reply.get("message"))[:200])
        compiled, ran = reply.get("compile_result"), reply.get("run_result")
        if compiled and (compiled.get("status") != "Finished" or compiled.get("return_code")):
            return _made(ProgramVerdict.COMPILE, compiled, compiled.get("return_code"), took_s)
        if not isinstance(ran, Mapping):
            raise _Unavailable(f"a reply without a run_result: {str(reply)[:200]}")
        code = ran.get("return_code")
        late = ran.get("status") == "TimeLimitExceeded"
        failure = ProgramVerdict.TIME if late else _failed(ran, code)
        return _made(failure, ran, code, ran.get("execution_time") or took_s)


def _failed(ran: Mapping[str, Any], code: int | None) -> ProgramVerdict | None:
    """The verdict on an exit code, and on what Python says last; only one failure may be taken for another."""
    if code == 0:
        return None
    last = (ran.get("stderr") or "").strip().rpartition("\n")[2]
    if last.startswith(_SYNTAX):
        return ProgramVerdict.COMPILE
    return ProgramVerdict.MEMORY if last.startswith(("MemoryError", "std::bad_alloc")) else ProgramVerdict.RUNTIME_ERROR


def _made(
    failure: ProgramVerdict | None,
    ran: Mapping[str, Any],
    code: int | None,
    wall_s: float,
    cpu_s: float = 0.0,
    peak_mb: float = 0.0,
) -> Execution:
    """An execution from a part of a reply."""
    return Execution(failure, ran.get("stdout") or "", ran.get("stderr") or "", code, wall_s, cpu_s, peak_mb)

"""Piston, SandboxFusion and E2B, against stand-ins that answer as their documentation and source say."""

from __future__ import annotations

import json
import sys
import threading
import types
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from r1rl.errors import RewardError, SandboxError
from r1rl.programs.asserts import assert_tests
from r1rl.programs.formats import read_tests
from r1rl.programs.grader import open_runner
from r1rl.programs.remote import Piston, SandboxFusion
from r1rl.programs.types import Execution, Program, ProgramLimits, Runner
from tests.programs.test_formats import ROWS
from tests.support.bare_runner import BareRunner
from tests.support.grading import graded

LIMITS = ProgramLimits(wall_s=5)


class Service(ThreadingHTTPServer):
    """Answers like Piston and SandboxFusion; ``failing`` first answers are status 503."""

    def __init__(self, bare: Runner) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bare, self.failing, self.asked = bare, 0, []  # type: ignore[var-annotated]
        self.forced: Any = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        if self.path == "/api/v2/runtimes":
            names = [("python", "3.12.0"), ("c++", "10.2.0"), ("bash", "5.2.0")]
            self.reply(200, [{"language": name, "version": version, "aliases": []} for name, version in names])
        else:
            self.reply(200 if self.path == "/v1/ping" else 404, "pong")

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(asked)
        if self.server.failing:
            self.server.failing -= 1
            self.reply(503, {"message": "busy"})
        elif self.server.forced is not None:
            self.reply(200, self.server.forced)
        else:
            self.reply(
                200,
                _piston(asked, self.server.bare)
                if "files" in asked and "version" in asked
                else _fusion(asked, self.server.bare),
            )

    def reply(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _ran(source: str, stdin: str, wall_s: float, bare: Runner) -> Execution:
    return bare.run(Program(source), stdin, ProgramLimits(wall_s=wall_s))


def _piston(asked: dict[str, Any], bare: Runner) -> dict[str, Any]:
    ran = _ran(asked["files"][0]["content"], asked["stdin"], asked["run_timeout"] / 1000, bare)
    killed = "SIGKILL" if ran.exit_code is None else None
    run = {"stdout": ran.stdout, "stderr": ran.stderr, "output": ran.stdout + ran.stderr, "signal": killed}
    return {"language": asked["language"], "version": "3.12.0", "run": {**run, "code": ran.exit_code}}


def _fusion(asked: dict[str, Any], bare: Runner) -> dict[str, Any]:
    ran = _ran(asked["code"], asked["stdin"], asked["run_timeout"], bare)
    late = ran.exit_code is None
    result = {
        "status": "TimeLimitExceeded" if late else "Finished",
        "execution_time": ran.wall_s,
        "return_code": ran.exit_code,
        "stdout": ran.stdout,
        "stderr": ran.stderr,
    }
    status = "Failed" if late or ran.exit_code else "Success"
    return {"status": status, "message": "", "compile_result": None, "run_result": result, "files": {}}


@pytest.fixture
def service(bare: Runner) -> Iterator[Service]:
    with Service(bare) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(params=["piston", "sandbox_fusion"])
def runner(request: pytest.FixtureRequest, service: Service) -> Iterator[Runner]:
    url = service.url + ("/api/v2" if request.param == "piston" else "/")
    with open_runner(request.param, "python", 2, LIMITS, {"url": url, "backoff_s": 0.01}) as made:
        yield made


@pytest.mark.parametrize(
    ("source", "failure"),
    [
        ("print(input())", None),
        ("raise ValueError", "runtime_error"),
        ("import os\nos.kill(os.getpid(), 9)", "runtime_error"),
        ("raise MemoryError", "memory"),
        ("print(", "compile"),
    ],
)
def test_executions(runner: Runner, source: str, failure: str | None) -> None:
    execution = runner.run(Program(source), "hello")
    assert execution.failure == failure
    assert failure or execution.stdout == "hello\n"


def test_a_program_that_is_too_slow(runner: Runner) -> None:
    execution = runner.run(Program("import time\ntime.sleep(60)"), "", ProgramLimits(wall_s=0.5))
    assert execution.failure == "time"


@pytest.mark.parametrize("name", ["taco", "apps with fn_name", "mbpp", "livecodebench functional"])
def test_the_formats_that_need_one_program(runner: Runner, name: str) -> None:
    row, right, wrong = ROWS[name]
    assert graded(read_tests(row), right, runner).verdict == "passed"
    assert graded(read_tests(row), wrong, runner).verdict in ("wrong", "runtime_error")


def test_asserts_that_need_a_judge_are_not_judged(runner: Runner) -> None:
    result = graded(assert_tests("assert abs(f(1) - 1) < 1"), "def f(x): return x", runner)
    assert result.verdict is None
    assert "cannot judge these asserts" in result.detail


def test_what_passes_is_tried_again(runner: Runner, service: Service) -> None:
    service.failing = 2
    assert runner.run(Program("print(1)")).stdout == "1\n"
    service.failing = 9
    with pytest.raises(SandboxError, match="failed 4 times, last: status 503"):
        runner.run(Program("print(1)"))


def test_a_reply_that_makes_no_sense_is_an_error(runner: Runner, service: Service) -> None:
    service.forced = {"status": "SandboxError", "message": "no space left"}
    with pytest.raises(SandboxError, match="failed 4 times"):
        runner.run(Program("print(1)"))


def test_requests_carry_the_limits(service: Service) -> None:
    limits = ProgramLimits(wall_s=3, memory_mb=256)
    with Piston(1, limits, url=service.url + "/api/v2") as piston:
        piston.run(Program("print(1)"))
    asked = service.asked.pop()
    assert (asked["language"], asked["version"]) == ("python", "*")
    assert (asked["run_timeout"], asked["run_memory_limit"]) == (3000, 256 << 20)
    with SandboxFusion(1, limits, url=service.url) as fusion:
        fusion.run(Program("print(1)"))
    asked = service.asked.pop()
    assert (asked["run_timeout"], asked["memory_limit_MB"], asked["language"]) == (3, 256, "python")


@pytest.mark.parametrize(
    ("run", "verdict"),
    [
        ({"status": "TO", "signal": "SIGKILL", "code": None, "wall_time": 12000}, "time"),
        ({"status": "OL", "signal": "SIGKILL", "code": None}, "output"),
        ({"status": "SG", "signal": "SIGSEGV", "code": None}, "runtime_error"),
        ({"signal": "SIGKILL", "code": None, "wall_time": 100}, "memory"),
        ({"signal": None, "code": 0, "wall_time": 100, "cpu_time": 90, "memory": 9437184}, None),
    ],
)
def test_how_piston_says_why_a_program_ended(service: Service, run: dict[str, Any], verdict: str | None) -> None:
    service.forced = {"language": "python", "version": "3.12.0", "run": {"stdout": "", "stderr": "", **run}}
    with Piston(1, url=service.url + "/api/v2") as piston:
        assert piston.run(Program("")).failure == verdict


def test_compilers_that_refuse(service: Service) -> None:
    service.forced = {"compile": {"code": 1, "signal": None, "stdout": "", "stderr": "error: x"}}
    with Piston(1, url=service.url + "/api/v2") as piston:
        assert piston.languages == ("python", "cpp")
        assert piston.run(Program("x", "cpp")).failure == "compile"
    failed = {"status": "Finished", "return_code": 1, "stdout": "", "stderr": "error: x"}
    service.forced = {"status": "Failed", "compile_result": failed, "run_result": None}
    with SandboxFusion(1, url=service.url) as fusion:
        assert fusion.run(Program("x", "cpp")).failure == "compile"


@pytest.mark.parametrize("name", ["piston", "sandbox_fusion"])
def test_a_service_that_is_not_there(name: str) -> None:
    with pytest.raises(SandboxError, match=r"does not answer at http://127.0.0.1:9"):
        open_runner(name, "python", 1, LIMITS, {"url": "http://127.0.0.1:9"})
    with pytest.raises(RewardError, match="does not take these options"):
        open_runner(name, "python", 1, LIMITS, {"adress": "http://127.0.0.1:9"})


def test_e2b_is_named_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "e2b", None)
    with pytest.raises(SandboxError, match="pip install e2b"):
        open_runner("e2b", "python", 1, LIMITS, {})


class CommandExitException(Exception):
    def __init__(self, stdout: str, stderr: str, exit_code: int) -> None:
        self.stdout, self.stderr, self.exit_code = stdout, stderr, exit_code


def e2b(bare: Runner, made: list[Any]) -> types.ModuleType:
    """E2B's client, as its SDK has it: files, commands, an exception for any exit code but 0."""

    class Sandbox:
        def __init__(self, **options: Any) -> None:
            self.options, self.held, self.killed = options, {}, False  # type: ignore[var-annotated]
            self.files = self.commands = self

        @classmethod
        def create(cls, **options: Any) -> Sandbox:
            made.append(cls(**options))
            return made[-1]

        def write(self, path: str, data: str) -> None:
            self.held[path] = data

        def run(self, command: str, timeout: float) -> Any:
            assert command.endswith("< stdin")
            ran = bare.run(Program(self.held["main"]), self.held["stdin"], ProgramLimits(wall_s=1))
            if ran.exit_code:
                raise CommandExitException(ran.stdout, ran.stderr, ran.exit_code)
            if ran.exit_code is None:
                raise CommandExitException(ran.stdout, ran.stderr, 137)
            return ran

        def kill(self) -> None:
            self.killed = True

    module = types.ModuleType("e2b")
    module.__dict__.update(
        Sandbox=Sandbox, CommandExitException=CommandExitException, TimeoutException=type("T", (Exception,), {})
    )
    return module


def test_e2b(monkeypatch: pytest.MonkeyPatch, bare: Runner) -> None:
    made: list[Any] = []
    monkeypatch.setitem(sys.modules, "e2b", e2b(bare, made))
    with open_runner("e2b", "python", 2, LIMITS, {"template": "mine"}) as runner:
        row, right, wrong = ROWS["mbpp"]
        assert graded(read_tests(row), right, runner).verdict == "passed"
        assert graded(read_tests(row), wrong, runner).verdict == "wrong"
        assert graded(read_tests(row), "x = (", runner).verdict == "compile"
        assert runner.run(Program("import time\ntime.sleep(60)")).failure == "time"
    assert all(sandbox.killed for sandbox in made)
    assert made[0].options["allow_internet_access"] is False


def test_a_runner_of_ones_own(bare: Runner) -> None:
    with open_runner("tests.support.bare_runner:BareRunner", "python", 1, LIMITS, {}) as runner:
        assert isinstance(runner, BareRunner)
        assert runner.run(Program("print(1)")).stdout == "1\n"
    with pytest.raises(RewardError, match="has no 'cpp'; it runs: python"):
        open_runner("tests.support.bare_runner:BareRunner", "cpp", 1, LIMITS, {})
    with pytest.raises(RewardError, match="no runner of programs is called 'pistn'; did you mean 'piston'"):
        open_runner("pistn", "python", 1, LIMITS, {})

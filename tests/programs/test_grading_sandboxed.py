"""Grading in the real sandbox: the judge and the program, each in its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from r1rl.errors import SandboxError
from r1rl.programs.pool import SandboxPool
from r1rl.programs.types import ProgramLimits, Runner
from tests.programs.test_grading import DOUBLE, JUDGED, RIGHT, SIMPLE, SUM, WRONG
from tests.support.cheats import CHEATS
from tests.support.grading import graded
from tests.support.waits import HANG_S


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Runner]:
    try:
        pool = SandboxPool(2, ProgramLimits(cpu_s=2, wall_s=HANG_S))
    except SandboxError as error:
        pytest.skip(str(error))
    with pool:
        yield pool


@pytest.mark.parametrize("tests", [DOUBLE, SIMPLE, JUDGED], ids=["calls", "simple asserts", "judged asserts"])
@pytest.mark.parametrize(
    ("program", "verdict"),
    [
        (RIGHT, "passed"),
        (WRONG, "wrong"),
        ("def double(x:\n", "compile"),
        ("import os\nos._exit(0)\n", "runtime_error"),
        ("def double(x):\n    while True: pass\n", "time"),
    ],
)
def test_verdicts(tests: object, program: str, verdict: str, sandbox: Runner) -> None:
    assert graded(tests, program, sandbox).verdict == verdict  # type: ignore[arg-type]


@pytest.mark.integration
@pytest.mark.parametrize("cheat", CHEATS)
def test_no_cheat_passes(cheat: str, sandbox: Runner) -> None:
    for tests in (DOUBLE, SIMPLE, JUDGED):
        assert graded(tests, CHEATS[cheat], sandbox).verdict not in (None, "passed")


def test_cpp(sandbox: Runner) -> None:
    if "cpp" not in sandbox.languages:
        pytest.skip("needs g++")
    right = "#include <iostream>\nint main() { int a, b; std::cin >> a >> b; std::cout << a + b; }\n"
    assert graded(SUM, right, sandbox, language="cpp").verdict == "passed"
    assert graded(SUM, right.replace("+", "-"), sandbox, language="cpp").verdict == "wrong"
    assert graded(SUM, "int main({", sandbox, language="cpp").verdict == "compile"

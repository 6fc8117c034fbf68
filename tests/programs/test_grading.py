"""Programs are graded right in every format, and none is judged to pass because it cheats."""

from __future__ import annotations

import pytest

from r1rl.programs.asserts import JudgedTests, assert_tests
from r1rl.programs.calls import CallTests, FunctionCall
from r1rl.programs.stdio import StdinTests
from r1rl.programs.types import ProgramVerdict, Runner
from tests.support.cheats import CHEATS
from tests.support.grading import graded

SUM = StdinTests([("1 2\n", "3\n"), ("5 6\n", "11\n"), ("0 0\n", "0\n")])
DOUBLE = CallTests(
    [FunctionCall("double", [2], 4), FunctionCall("double", [[1]], [1, 1]), FunctionCall("double", ["ab"], "abab")]
)
SIMPLE = assert_tests("assert double(2) == 4\nassert double('ab') == 'abab'\nassert double([1]) == [1, 1]")
JUDGED = assert_tests(
    "def check(candidate):\n"
    "    for n in range(1, 4):\n"
    "        assert candidate(n) == 2 * n\n"
    "    assert abs(candidate(0.1) - 0.2) < 1e-9\n"
    "    assert sorted(candidate([3, 1])) == [1, 1, 3, 3]\n",
    entry="double",
)
RIGHT = "def double(x):\n    return x + x\n"
WRONG = "def double(x):\n    return x if x == 2 else x + x\n"


def test_each_kind_of_assert_takes_its_way() -> None:
    assert isinstance(SIMPLE, CallTests)
    assert isinstance(JUDGED, JudgedTests)


def test_stdin_tests(bare: Runner) -> None:
    assert graded(SUM, "print(sum(map(int, input().split())))", bare).verdict == "passed"
    wrong = graded(SUM, "a, b = map(int, input().split())\nprint(3 if a == 1 else a * b)", bare)
    assert (wrong.verdict, wrong.passed, wrong.total) == ("wrong", 1, 3)
    broken = graded(SUM, "print(1 / 0)", bare)
    assert broken.verdict == "runtime_error"
    assert "ZeroDivisionError" in broken.detail


def test_share_credit_runs_the_tests_after_a_failure(bare: Runner) -> None:
    program = "a, b = map(int, input().split())\nprint(a + b if a != 5 else 0)"
    assert graded(SUM, program, bare).share == pytest.approx(1 / 3)
    assert graded(SUM, program, bare, credit="share").share == pytest.approx(2 / 3)
    assert graded(DOUBLE, WRONG, bare, credit="share").share == pytest.approx(2 / 3)
    judged = graded(JUDGED, WRONG, bare, credit="share")
    assert (judged.verdict, judged.passed, judged.total) == ("wrong", 4, 5)


def test_a_checker_decides_where_several_outputs_are_right(bare: Runner) -> None:
    def any_order(stdin: str, expected: str, stdout: str) -> bool:
        return sorted(stdout.split()) == sorted(expected.split())

    tests = StdinTests([("", "1 2 3")])
    assert graded(tests, "print(3, 1, 2)", bare).verdict == "wrong"
    assert graded(tests, "print(3, 1, 2)", bare, checker=any_order).verdict == "passed"


@pytest.mark.parametrize("tests", [DOUBLE, SIMPLE, JUDGED], ids=["calls", "simple asserts", "judged asserts"])
@pytest.mark.parametrize(
    ("program", "verdict"),
    [
        (RIGHT, "passed"),
        (f"print('chatter')\nimport sys\n{RIGHT}    print(x, file=sys.stderr)\n", "passed"),
        ("class Solution:\n    def double(self, x):\n        return x + x\n", "passed"),
        (f"if __name__ == '__main__':\n    input()\n{RIGHT}", "passed"),
        (WRONG, "wrong"),
        ("def double(x):\n    return None\n", "wrong"),
        ("def double(x):\n    return x.nothing\n", "runtime_error"),
        ("def double(x):\n    raise SystemExit(0)\n", "runtime_error"),
        ("def other(x):\n    return x + x\n", "runtime_error"),
        ("def double(x:\n", "compile"),
        ("raise ValueError\n", "runtime_error"),
        ("import sys\nsys.exit(0)\n", "runtime_error"),
        ("import os\nos._exit(0)\n", "runtime_error"),
        (f"{RIGHT}import os, atexit\natexit.register(os._exit, 0)\nraise SystemExit", "runtime_error"),
        ("import os\ndef double(x):\n    os._exit(0)\n", "runtime_error"),
    ],
)  # fmt: skip
def test_verdicts_of_functions(tests: CallTests, program: str, verdict: str, bare: Runner) -> None:
    assert graded(tests, program, bare).verdict == verdict


@pytest.mark.parametrize("tests", [DOUBLE, SIMPLE, JUDGED], ids=["calls", "simple asserts", "judged asserts"])
@pytest.mark.parametrize("cheat", CHEATS)
def test_no_cheat_passes(tests: CallTests, cheat: str, bare: Runner) -> None:
    for credit in ("whole", "share"):
        result = graded(tests, CHEATS[cheat], bare, credit=credit)
        assert result.verdict not in (None, ProgramVerdict.PASSED), result


def test_what_tests_of_classes_need(bare: Runner) -> None:
    tests = assert_tests(
        "root = Node(1)\nroot.left = Node(2)\nassert root.left.value == 2\nassert total(root) == 3\n"
        "assert len(root) == 2\nassert list(root) == [1, 2]\nassert 2 in root\nassert root[0] == 1\n"
        "assert str(root) == 'node'\nassert root.left.left is None\nassert root != Node(1)"
    )
    program = (
        "class Node:\n    def __init__(self, value): self.value, self.left = value, None\n"
        "    def __iter__(self):\n        yield self.value\n        if self.left: yield from self.left\n"
        "    def __len__(self): return sum(1 for _ in self)\n    def __getitem__(self, i): return list(self)[i]\n"
        "    def __str__(self): return 'node'\n    def __contains__(self, x): return x in list(self)\n"
        "def total(node): return sum(node)\n"
    )
    assert graded(tests, program, bare).verdict == "passed"
    assert graded(tests, program.replace("sum(node)", "4"), bare).verdict == "wrong"


def test_what_a_call_does_to_its_arguments_is_seen(bare: Runner) -> None:
    tests = assert_tests("a = [3, 1, 2]\nassert sort(a) is None\nassert a == [1, 2, 3]")
    assert graded(tests, "def sort(a): a.sort()", bare).verdict == "passed"
    assert graded(tests, "def sort(a): sorted(a)", bare).verdict == "wrong"


def test_expected_exceptions(bare: Runner) -> None:
    tests = assert_tests(
        "try:\n    f(-1)\n    assert False\nexcept ValueError as error:\n    assert 'no' in str(error)"
    )
    assert graded(tests, "def f(x): raise ValueError('no')", bare).verdict == "passed"
    assert graded(tests, "def f(x): return x", bare).verdict == "wrong"
    assert graded(tests, "def f(x): raise KeyError('no')", bare).verdict == "runtime_error"


def test_pytest_style(bare: Runner) -> None:
    tests = assert_tests("from solution import double\ndef test_a():\n    assert double(double(1)) == 4\n")
    assert graded(tests, RIGHT, bare).verdict == "passed"
    assert graded(tests, WRONG, bare).verdict == "wrong"


def test_tests_that_cannot_be_run_are_not_held_against_a_program(bare: Runner) -> None:
    result = graded(assert_tests("import no_such_module\nassert double(1) - 1 == 1"), RIGHT, bare)
    assert result.verdict is None
    assert "no_such_module" in result.detail

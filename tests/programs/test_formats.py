"""Rows in the schemas that datasets publish give the tests that their authors meant."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from typing import Any

import pytest

from r1rl.errors import DataError
from r1rl.programs.asserts import JudgedTests
from r1rl.programs.calls import CallTests
from r1rl.programs.formats import UnreadableError, read_tests
from r1rl.programs.stdio import StdinTests
from r1rl.programs.types import Runner
from tests.support.grading import graded

ADD = "def add(a, b):\n    return a + b\n"
ADD_METHOD = "class Solution:\n    def add(self, a: int, b: int) -> List[int]:\n        return a + b\n"
ADD_MAIN = "print(sum(map(int, input().split())))\n"
SUB_MAIN = "a, b = map(int, input().split())\nprint(a - b)\n"
SUB = "def add(a, b):\n    return a - b\n"

STDIN = [{"input": "1 2\n", "output": "3\n"}, {"input": "4 5", "output": "9"}]
FUNCTIONAL = [
    {"input": "1\n2", "output": "3", "testtype": "functional"},
    {"input": "[1]\n[2]", "output": "[1, 2]", "testtype": "functional"},
]


def packed(cases: list[dict[str, Any]]) -> str:
    """LiveCodeBench's private tests, as its own preparation writes them."""
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(cases)))).decode()


ROWS: dict[str, tuple[dict[str, Any], str, str]] = {
    "humaneval": (
        {
            "task_id": "HumanEval/900",
            "prompt": 'import math\n\ndef twice(x):\n    return 2 * x\n\ndef add(a, b):\n    """Add."""\n',
            "entry_point": "add",
            "canonical_solution": "    return a + b\n",
            "test": "METADATA = {}\n\ndef check(candidate):\n    assert candidate(1, twice(1)) == math.floor(3.5)\n",
        },
        ADD,
        SUB,
    ),
    "mbpp": (
        {
            "task_id": 900,
            "text": "Write a function to add.",
            "code": ADD,
            "test_list": ["assert add(1, 2) == 3", "assert add([1], [2]) == [1, 2]"],
            "test_setup_code": "",
            "challenge_test_list": [],
        },
        ADD,
        SUB,
    ),
    "mbpp sanitized": (
        {
            "prompt": "Write a function to add.",
            "test_imports": ["import math"],
            "test_list": ["assert math.isclose(add(0.1, 0.2), 0.3)"],
        },
        ADD,
        SUB,
    ),
    "apps": (
        {
            "problem_id": 900,
            "question": "Add.",
            "solutions": "[]",
            "input_output": json.dumps({"inputs": ["1 2\n", ["4 5"]], "outputs": ["3\n", ["9"]]}),
            "starter_code": "",
        },
        ADD_MAIN,
        SUB_MAIN,
    ),
    "apps with fn_name": (
        {
            "input_output": json.dumps({"fn_name": "add", "inputs": [[1, 2], [[1], [2]]], "outputs": [[3], [[1, 2]]]}),
            "starter_code": "def add(a, b):\n",
        },
        ADD,
        SUB,
    ),
    "taco": (
        {
            "question": "Add.",
            "input_output": json.dumps({"inputs": ["1 2", "4 5"], "outputs": ["3", "9"]}),
            "time_limit": "2.0 seconds",
            "memory_limit": "256.0 megabytes",
            "difficulty": "EASY",
        },
        ADD_MAIN,
        SUB_MAIN,
    ),
    "livecodebench stdin": (
        {
            "question_content": "Add.",
            "starter_code": "",
            "public_test_cases": json.dumps([{**STDIN[0], "testtype": "stdin"}]),
            "private_test_cases": packed([{**STDIN[1], "testtype": "stdin"}]),
            "metadata": "{}",
        },
        ADD_MAIN,
        SUB_MAIN,
    ),
    "livecodebench functional": (
        {
            "question_content": "Add.",
            "starter_code": "class Solution:\n    def add(self, a: int, b: int) -> int:\n        ",
            "public_test_cases": json.dumps(FUNCTIONAL[:1]),
            "private_test_cases": packed(FUNCTIONAL[1:]),
            "metadata": json.dumps({"func_name": "add"}),
        },
        ADD_METHOD,
        ADD_METHOD.replace("+", "-"),
    ),
    "codecontests": (
        {
            "name": "900_A. Add",
            "description": "Add.",
            "public_tests": {"input": ["1 2\n"], "output": ["3\n"]},
            "private_tests": {"input": [], "output": []},
            "generated_tests": {"input": ["4 5\n"], "output": ["9\n"]},
            "time_limit": {"seconds": 2, "nanos": 0},
        },
        ADD_MAIN,
        SUB_MAIN,
    ),
    "open-r1 codeforces": (
        {"id": "900/A", "description": "Add.", "official_tests": STDIN, "time_limit": 2.0, "memory_limit": 256.0},
        ADD_MAIN,
        SUB_MAIN,
    ),
    "open-r1 verifiable coding": (
        {
            "source": "apps",
            "task_type": "verifiable_code",
            "prompt": "Add.",
            "gold_standard_solution": ADD_MAIN,
            "verification_info": {
                "language": "python",
                "test_cases": [{"fn_name": None, **case, "type": "stdin_stdout"} for case in STDIN],
            },
        },
        ADD_MAIN,
        SUB_MAIN,
    ),
    "function calls in verification_info": (
        {
            "verification_info": json.dumps(
                {"test_cases": [{"type": "function_call", "fn_name": "add", "input": [1, 2], "output": [3]}]}
            )
        },
        ADD,
        SUB,
    ),
    "verl": (
        {
            "data_source": "codecontests",
            "prompt": [{"role": "user", "content": "Add."}],
            "ability": "code",
            "reward_model": {
                "style": "rule",
                "ground_truth": json.dumps({"inputs": ["1 2", "4 5"], "outputs": ["3", "9"]}),
            },
        },
        ADD_MAIN,
        SUB_MAIN,
    ),
    "verl with asserts": (
        {"reward_model": {"ground_truth": json.dumps({"assert_case": ["assert add(1, 2) == 3"]})}},
        ADD,
        SUB,
    ),
    "deepcoder": (
        {
            "problem": "Add.",
            "starter_code": "",
            "tests": json.dumps([{**case, "testtype": "stdin", "metadata": {"func_name": None}} for case in STDIN]),
        },
        ADD_MAIN,
        SUB_MAIN,
    ),
    "acecode": (
        {"question": "Add.", "test_cases": ["assert add(1, 2) == 3", "assert add('a', 'b') == 'ab'"]},
        ADD,
        SUB,
    ),
    "kodcode": (
        {"question": "Add.", "test": "from solution import add\n\ndef test_add():\n    assert add(1, 2) == 3\n"},
        ADD,
        SUB,
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_right_program_passes_and_another_does_not(name: str, bare: Runner) -> None:
    row, right, wrong = ROWS[name]
    tests = read_tests(row)
    assert graded(tests, right, bare).verdict == "passed"
    result = graded(tests, wrong, bare)
    assert result.verdict in ("wrong", "runtime_error"), result


@pytest.mark.parametrize("name", ROWS)
def test_rows_survive_parquet_and_json(name: str) -> None:
    """Every value of these rows is one that a dataset file can hold, so that the schemas are real."""
    row, _, _ = ROWS[name]
    assert json.loads(json.dumps(row)) == row


def test_kinds_of_tests() -> None:
    assert isinstance(read_tests(ROWS["humaneval"][0]), JudgedTests)
    assert isinstance(read_tests(ROWS["mbpp"][0]), CallTests)
    assert isinstance(read_tests(ROWS["taco"][0]), StdinTests)


def test_the_first_tests_only() -> None:
    tests = read_tests(ROWS["taco"][0], 1)
    assert isinstance(tests, StdinTests)
    assert tests.cases == [("1 2", "3")]


def test_keys_that_are_numbers_arrive_as_numbers(bare: Runner) -> None:
    row = {"input_output": json.dumps({"fn_name": "first", "inputs": [[{"1": "a", "2": "b"}]], "outputs": ["a"]})}
    assert graded(read_tests(row), "def first(table):\n    return table[1]\n", bare).verdict == "passed"


def test_a_row_without_tests_has_none() -> None:
    assert read_tests({"input_output": None}) is None
    assert read_tests({"test_list": []}) is None
    assert read_tests({"input_output": json.dumps({"inputs": [], "outputs": []})}) is None


def test_columns_without_tests_are_an_error() -> None:
    with pytest.raises(DataError, match=r"no column has tests.*test \+ entry_point.*there are question"):
        read_tests({"question": "Add."})


@pytest.mark.parametrize(
    "row",
    [
        {"input_output": "{not json"},
        {"input_output": json.dumps({"inputs": ["1"], "outputs": []})},
        {"verification_info": {}},
        {"test_list": ["assert add(1"]},
        {"test_cases": 3},
        {"public_test_cases": "[]", "private_test_cases": "bm90IHppcHBlZA=="},
    ],
)
def test_unreadable_tests_are_named(row: dict[str, Any]) -> None:
    with pytest.raises(UnreadableError, match=f"the tests in column '{next(iter(row))}' cannot be read"):
        read_tests(row)


def test_private_tests_cannot_run_code() -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (print, ("never",))

    text = base64.b64encode(zlib.compress(pickle.dumps(Bomb()))).decode()
    with pytest.raises(UnreadableError, match=r"builtins\.print"):
        read_tests({"public_test_cases": "[]", "private_test_cases": text})

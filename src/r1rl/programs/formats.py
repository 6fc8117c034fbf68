"""The tests of a problem from the columns of the datasets that publish them.

Each reader takes the columns of a row and returns its tests, None where the row has none. The schemas are those of
HumanEval, MBPP, KodCode, APPS, TACO, CodeContests, Codeforces, LiveCodeBench, of the data sets that open-r1
(``verification_info``), verl (``reward_model``) and DeepCoder (``tests``) train on, and of AceCode (``test_cases``).
"""

from __future__ import annotations

import ast
import base64
import io
import json
import pickle
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from r1rl.errors import DataError
from r1rl.programs.asserts import assert_tests
from r1rl.programs.bench import Tests
from r1rl.programs.calls import LEETCODE, CallTests, FunctionCall
from r1rl.programs.stdio import StdinTests

Columns = Mapping[str, Any]
_DAMAGED = (zlib.error, pickle.UnpicklingError, EOFError)
_UNREADABLE = (*_DAMAGED, ValueError, LookupError, TypeError, AttributeError, RecursionError, DataError)


class UnreadableError(DataError):
    """A row whose tests are not as its format has them."""


def read_tests(columns: Columns, most: int | None = None) -> Tests | None:
    """The tests of a row, at most the first ``most`` of them; None for a row without tests.

    Raises: DataError for a row whose columns are none of ``READERS``, UnreadableError for tests that cannot be read.
    """
    known = [names for names in READERS if all(name in columns for name in names)]
    if not known:
        names = ", ".join(" + ".join(each) for each in READERS)
        raise DataError(f"no column has tests; one of these is needed: {names} (there are {', '.join(columns)})")
    for each in known:
        if columns[each[0]] is None:
            continue
        try:
            return _first(READERS[each](columns), most)
        except _UNREADABLE as error:
            kind = type(error).__name__
            raise UnreadableError(f"the tests in column {each[0]!r} cannot be read: {kind}: {error}") from error
    return None


def _first(tests: Tests | None, most: int | None) -> Tests | None:
    if tests is None or not len(tests):
        return None
    if isinstance(tests, StdinTests):
        return StdinTests(tests.cases[:most], tests.tolerance)
    if isinstance(tests, CallTests):
        return CallTests(tests.calls[:most], tests.preamble, tests.tolerance)
    return tests


# ----------------------------------------------------------------------------------------------------- assert blocks


def _humaneval(columns: Columns) -> Tests | None:
    entry = columns["entry_point"]
    return assert_tests(columns["test"], setup=_helpers(columns.get("prompt"), entry), entry=entry)


def _helpers(prompt: Any, entry: str) -> str:
    """What a prompt defines before the function that it asks for: imports and helpers that the tests use."""
    try:
        tree = ast.parse(prompt if isinstance(prompt, str) else "")
    except (SyntaxError, ValueError):  # a prompt in prose
        return ""
    kinds = (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Assign)
    kept: list[ast.stmt] = [
        node for node in tree.body if isinstance(node, kinds) and getattr(node, "name", "") != entry
    ]
    return ast.unparse(ast.Module(kept, []))


def _mbpp(columns: Columns) -> Tests | None:
    setup = [*(columns.get("test_imports") or ()), columns.get("test_setup_code") or ""]
    return assert_tests("\n".join(columns["test_list"]), setup="\n".join(setup)) if columns["test_list"] else None


def _pytest(columns: Columns) -> Tests | None:
    return assert_tests(columns["test"]) if "assert" in columns["test"] else None


# ------------------------------------------------------------------------------------------- pairs of input and output


def _apps(columns: Columns) -> Tests | None:
    return _pairs(_loaded(columns["input_output"]), "json_or_only", columns)


def _verification_info(columns: Columns) -> Tests | None:
    return _pairs(_loaded(columns["verification_info"])["test_cases"], "json_or_only", columns)


def _reward_model(columns: Columns) -> Tests | None:
    return _pairs(_loaded(_loaded(columns["reward_model"])["ground_truth"]), "json_or_only", columns)


def _ground_truth(columns: Columns) -> Tests | None:
    return _pairs(_loaded(columns["ground_truth"]), "json_or_only", columns)


def _test_cases(columns: Columns) -> Tests | None:
    return _pairs(_loaded(columns["test_cases"]), "json_or_only", columns)


def _tests(columns: Columns) -> Tests | None:
    return _pairs(_loaded(columns["tests"]), "json_or_only", columns)


def _codeforces(columns: Columns) -> Tests | None:
    return _pairs(columns["official_tests"], "json", columns)


def _codecontests(columns: Columns) -> Tests | None:
    parts = [columns.get(name) for name in ("public_tests", "private_tests", "generated_tests")]
    cases = [case for part in parts if part for case in zip(part["input"], part["output"], strict=True)]
    return StdinTests(cases, columns.get("tolerance"))


def _livecodebench(columns: Columns) -> Tests | None:
    name = (_loaded(columns.get("metadata") or {})).get("func_name")
    cases = [*_loaded(columns["public_test_cases"]), *_unpacked(columns.get("private_test_cases") or "[]")]
    return _pairs([{"fn_name": name, **case} for case in cases], "json", columns)


def _unpacked(packed: str) -> Any:
    """LiveCodeBench's private tests: JSON, or pickled, compressed JSON in base64. Only text is ever unpickled."""
    try:
        return json.loads(packed)
    except ValueError:
        return json.loads(_TextOnly(io.BytesIO(zlib.decompress(base64.b64decode(packed)))).load())


class _TextOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} in what should be text")


READERS: dict[tuple[str, ...], Callable[[Columns], Tests | None]] = {
    ("verification_info",): _verification_info,
    ("reward_model",): _reward_model,
    ("public_test_cases", "private_test_cases"): _livecodebench,
    ("public_tests",): _codecontests,
    ("official_tests",): _codeforces,
    ("input_output",): _apps,
    ("test", "entry_point"): _humaneval,
    ("test_list",): _mbpp,
    ("test_cases",): _test_cases,
    ("tests",): _tests,
    ("ground_truth",): _ground_truth,
    ("test",): _pytest,
}
"""By the columns that a row needs; the first that are there, and not None, are read."""


def _loaded(value: Any) -> Any:
    """A value that may be kept as JSON."""
    return json.loads(value) if isinstance(value, str) else value


def _pairs(found: Any, rule: str, columns: Columns) -> Tests | None:
    """The tests in lists of inputs and outputs, in a list of cases, or in a list of asserts."""
    if isinstance(found, Mapping):
        if found.get("assert_case"):
            return assert_tests("\n".join(found["assert_case"]))
        name = found.get("fn_name")
        pairs = zip(found["inputs"], found["outputs"], strict=True)
        found = [{"input": given, "output": expected, "fn_name": name} for given, expected in pairs]
    if not found:
        return None
    if isinstance(found[0], str):
        return assert_tests("\n".join(found))
    tolerance = columns.get("tolerance")
    if all(_function(case) for case in found):
        return CallTests([_as_call(case, rule) for case in found], LEETCODE, tolerance)
    return StdinTests([(_text(case["input"]), _text(case["output"])) for case in found], tolerance)


def _function(case: Mapping[str, Any]) -> str | None:
    """The function that a case calls; None for a case of stdin and stdout."""
    if (case.get("type") or case.get("testtype")) in ("stdin", "stdin_stdout"):
        return None
    return case.get("fn_name") or (case.get("metadata") or {}).get("func_name")


def _as_call(case: Mapping[str, Any], rule: str) -> FunctionCall:
    given, expected = case["input"], case["output"]
    if isinstance(given, str):
        given = [_literal(line) for line in given.splitlines() if line.strip()]
    elif not isinstance(given, Sequence):
        given = [given]
    if isinstance(expected, str) and isinstance(case["input"], str):
        expected = _literal(expected)
    return FunctionCall(_function(case) or "", [_with_numbers(value) for value in given], expected, rule=rule)


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        try:
            return ast.literal_eval(text.strip())
        except (ValueError, SyntaxError):
            return text


def _with_numbers(value: Any) -> Any:
    """JSON has text for keys; where all of them are integers, the function gets integers, as APPS' own harness does."""
    if isinstance(value, dict) and value and all(isinstance(key, str) and key.lstrip("-").isdecimal() for key in value):
        return {int(key): item for key, item in value.items()}
    return value


def _text(value: Any) -> str:
    """A stdin or stdout; some rows of APPS have it as a list of lines."""
    return "\n".join(_lines(value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def _lines(values: Iterable[Any]) -> list[str]:
    return [str(value) for value in values]

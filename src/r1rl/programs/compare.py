"""Compares what a program gave with what a test expects, outside of the program's process."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from typing import Any

OutputChecker = Callable[[str, str, str], bool]
"""``(stdin, expected, stdout) -> bool``, for problems with several right outputs."""

_NUMBER = re.compile(r"[+-]?(\d{1,400}(\.\d{0,400})?|\.\d{1,400})([eE][+-]?\d{1,3})?")


def same_output(expected: str, output: str, tolerance: float | None = None) -> bool:
    """Whether two texts agree line by line, apart from blanks at the ends of lines and blank lines at the ends.

    With ``tolerance``, lines are compared word by word, and numbers may differ by ``tolerance * max(1, |expected|)``.
    """
    lines = itertools.zip_longest(expected.strip().splitlines(), output.strip().splitlines())
    return all(
        left is not None and right is not None and _same_line(left.strip(), right.strip(), tolerance)
        for left, right in lines
    )


def _same_line(expected: str, line: str, tolerance: float | None) -> bool:
    if expected == line:
        return True
    if tolerance is None:
        return False
    wanted, words = expected.split(), line.split()
    return len(wanted) == len(words) and all(map(_same_word, wanted, words, itertools.repeat(tolerance)))


def _same_word(expected: str, word: str, tolerance: float) -> bool:
    if expected == word:
        return True
    numbers = _NUMBER.fullmatch(expected) and _NUMBER.fullmatch(word)
    return bool(numbers) and close(float(expected), float(word), tolerance)


def close(expected: float, value: float, tolerance: float) -> bool:
    """Whether ``value`` is finite and within ``tolerance``, absolute or relative to ``expected``."""
    return math.isfinite(value) and abs(value - expected) <= tolerance * max(1.0, abs(expected))


def same_value(expected: Any, result: Any, tolerance: float | None = None) -> bool:
    """Whether a result, as JSON would write it, equals a value read from JSON: a tuple is a list, keys are text."""
    result = as_json(result)
    return bool(expected == result) if tolerance is None else _nearly(expected, result, tolerance)


def as_json(value: Any) -> Any:
    """Plain data as JSON writes and reads it; sets and other values stay as they are, equal to nothing in JSON."""
    match value:
        case list() | tuple():
            return [as_json(item) for item in value]
        case dict():
            return {_key(key): as_json(item) for key, item in value.items()}
    return value


def _key(key: Any) -> Any:
    match key:
        case None:
            return "null"
        case bool():
            return str(key).lower()
        case int() | float():
            return repr(key)
    return key


def _nearly(expected: Any, result: Any, tolerance: float) -> bool:
    match expected, result:
        case list(), list():
            return len(expected) == len(result) and all(map(_nearly, expected, result, itertools.repeat(tolerance)))
        case dict(), dict():
            return expected.keys() == result.keys() and all(
                _nearly(value, result[key], tolerance) for key, value in expected.items()
            )
        case ((int() | float()), (int() | float())):
            return _close_numbers(expected, result, tolerance)
    return bool(expected == result)


def _close_numbers(expected: float, result: float, tolerance: float) -> bool:
    try:
        return expected == result or close(float(expected), float(result), tolerance)
    except OverflowError:
        return False

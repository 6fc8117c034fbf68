"""Outputs are compared as judges do: blanks at the ends do not count, everything else does."""

from typing import Any

import pytest

from r1rl.programs.compare import same_output, same_value


@pytest.mark.parametrize(
    ("expected", "output"),
    [("1\n2\n", "1\n2"), ("1 2", "1 2 \n\n"), ("a\r\nb", "a\nb"), ("\n3 \n", "3"), ("", "\n")],
)
def test_blanks_at_the_ends_do_not_count(expected: str, output: str) -> None:
    assert same_output(expected, output)


@pytest.mark.parametrize(
    ("expected", "output"),
    [("1\n2", "1 2"), ("1", "1\n2"), ("1\n2", "1"), ("YES", "yes"), ("0.5", "0.50"), ("1", ""), ("a\n\nb", "a\nb")],
)
def test_everything_else_does(expected: str, output: str) -> None:
    assert not same_output(expected, output)


def test_numbers_differ_only_where_the_problem_has_a_tolerance() -> None:
    assert not same_output("0.333333333", "0.3333333331")
    assert same_output("x 0.333333333", "x  0.3333333331", 1e-6)
    assert same_output("1000000", "1000000.5", 1e-6)
    assert not same_output("0.3333", "0.3343", 1e-6)
    assert not same_output("1", "nan", 1e-6)
    assert not same_output("1 2", "1", 1e-6)
    assert not same_output("yes", "no", 1e-6)


@pytest.mark.parametrize(
    ("expected", "result"),
    [([1, 2], (1, 2)), ([[1, 2]], [(1, 2)]), ({"1": "a"}, {1: "a"}), ({"true": None}, {True: None}), (1, 1.0)],
)
def test_results_are_compared_as_json_writes_them(expected: Any, result: Any) -> None:
    assert same_value(expected, result)


@pytest.mark.parametrize(("expected", "result"), [([1], {1}), ([1, 2], [2, 1]), ("1", 1), ([0], range(1)), (1, None)])
def test_other_results_are_not_equal(expected: Any, result: Any) -> None:
    assert not same_value(expected, result)


def test_results_may_differ_by_a_tolerance_too() -> None:
    assert same_value({"a": [0.1 + 0.2]}, {"a": (0.3,)}, 1e-9)
    assert not same_value([0.3], [0.31], 1e-9)
    assert not same_value([0.3], [0.3, 0.3], 1e-9)
    assert not same_value(1.0, 10**400, 1e-9)
    assert not same_value([1], [[1]], 1e-9)

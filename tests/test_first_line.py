"""What is quoted of another library's error: one line, and never none."""

from __future__ import annotations

import pytest

from r1rl.errors import first_line


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n  one\n"), "one"),
        (ValueError(" \n"), "ValueError"),
        (KeyError(), "KeyError"),
    ],
)
def test_the_first_line_of_an_error_is_never_empty(error: Exception, said: str) -> None:
    assert first_line(error) == said

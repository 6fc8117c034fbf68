"""A runner for the tests of grading, which is the same on every back end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from r1rl.programs.types import Runner
from tests.support.bare_runner import BareRunner


@pytest.fixture(scope="session")
def bare() -> Iterator[Runner]:
    with BareRunner() as runner:
        yield runner

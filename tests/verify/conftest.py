from __future__ import annotations

from collections.abc import Iterator

import pytest

from r1rl.verify import Checker


@pytest.fixture(scope="session")
def checker() -> Iterator[Checker]:
    """One checker with running workers for all tests."""
    with Checker() as shared:
        assert shared.equivalent("x+1", "1+x")
        yield shared

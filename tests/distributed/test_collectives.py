"""Collectives on plain objects, as one process sees them."""

from __future__ import annotations

import pytest

from r1rl.distributed import collectives
from r1rl.distributed.collectives import failing_together, from_main, gather
from r1rl.errors import R1Error, StorageError


def test_one_process_is_all_of_them() -> None:
    assert gather([1, 2]) == [1, 2]
    assert from_main({"a": 1}) == {"a": 1}
    with failing_together(R1Error):
        pass


def test_a_failure_stays_what_it_was_where_it_happened() -> None:
    with pytest.raises(StorageError, match="disk full"), failing_together(R1Error):
        raise StorageError("disk full")
    with pytest.raises(ValueError, match="a bug"), failing_together(R1Error):
        raise ValueError("a bug")


def test_the_others_fail_with_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collectives, "gather", lambda items: ["disk full", *items])
    with pytest.raises(StorageError, match="disk full"), failing_together(StorageError):
        pass

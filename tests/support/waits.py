"""How long tests wait. A time-out bounds a hang; it says nothing about speed, which a busy machine decides."""

from __future__ import annotations

import time
from collections.abc import Callable

HANG_S = 600.0
"""What takes longer hangs: minutes even on a cold machine whose cores others use."""


def until(ready: Callable[[], bool], what: str, poll_s: float = 0.02) -> None:
    """Wait for ``ready``. Raises AssertionError that names ``what`` after :data:`HANG_S`."""
    end = time.monotonic() + HANG_S
    while not ready():
        assert time.monotonic() < end, f"waited {HANG_S:g} s for {what}"
        time.sleep(poll_s)

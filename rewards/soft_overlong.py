"""The soft penalty on length of DAPO (arXiv 2503.14476, equation 13)."""

from __future__ import annotations

from typing import Any


def soft_overlong(completion_ids: list[list[int]], *, max_length: int, buffer: int, **kwargs: Any) -> list[float]:
    """0 up to ``max_length − buffer`` tokens, then linearly down to −1 at ``max_length``, and −1 beyond it."""
    if not 0 < buffer <= max_length:
        raise ValueError(f"soft_overlong needs 0 < buffer <= max_length, got buffer {buffer}, max_length {max_length}")
    return [_penalty(len(ids), max_length, buffer) for ids in completion_ids]


def _penalty(length: int, max_length: int, buffer: int) -> float:
    excess = length - (max_length - buffer)
    return -min(1.0, max(0, excess) / buffer)

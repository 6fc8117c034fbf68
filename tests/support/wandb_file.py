"""Reads the file in which wandb keeps an offline run."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path


def log_records(file: Path) -> Iterator[bytes]:
    """Records of a wandb file (LevelDB log format): blocks of 32 KiB, each part after checksum, length and type."""
    data, position, parts = file.read_bytes(), 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        length, kind = struct.unpack("<HB", data[position + 4 : position + 7])
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""

"""Hashes that say whether what lies on disk was made by this configuration."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from r1rl.config import RunConfig
from r1rl.config.references import USES, pick

_EXTENDS = ("steps", "checkpoint_every", "keep_checkpoints", "eval_every", "deadline_s")
"""Keys of ``grpo`` that change how far or how a run is watched, not what a step does."""

_SAMPLED = 1 << 20
"""Bytes read at each end of a large file; with its size they stand for its content."""


def training_fingerprint(config: RunConfig) -> str:
    """Of a checkpoint: a run may go on with more steps or other intervals, but not with another step."""
    dumped = config.model_dump(mode="json")
    parts = {name: pick(dumped, name) for name in USES["grpo"]}
    extends = _EXTENDS if config.grpo.lr_schedule == "constant" else _EXTENDS[1:]
    parts["grpo"] = {key: value for key, value in parts["grpo"].items() if key not in extends}
    return digest(parts)


def content(path: Path) -> str:
    """Of a file, or of every file in a folder: names, sizes and bytes (of files over 64 MiB, both ends)."""
    if path.is_file():
        return _file(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return digest({str(file.relative_to(path)): _file(file) for file in files})


def digest(value: Any) -> str:
    """16 hexadecimal digits of a plain value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _file(path: Path) -> str:
    size, hasher = path.stat().st_size, hashlib.sha256()
    hasher.update(str(size).encode())
    with path.open("rb") as stream:
        if size <= 64 * _SAMPLED:
            hasher.update(stream.read())
        else:
            hasher.update(stream.read(_SAMPLED))
            stream.seek(-_SAMPLED, 2)
            hasher.update(stream.read(_SAMPLED))
    return hasher.hexdigest()[:16]

"""Hashes that say whether what lies on disk was made by this configuration."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import r1rl
from r1rl.config import RunConfig

SECTIONS: dict[str, tuple[str, ...]] = {
    "pretrain": ("seed", "pretrain"),
    "grpo": ("seed", "model", "data", "rollout", "rewards", "scoring", "grpo"),
    "evaluate": ("seed", "model", "data.eval", "data.prompt", "rollout", "rewards", "evaluate"),
}
"""Parts of the configuration on which each kind of stage depends."""

_EXTENDS = ("steps", "checkpoint_every", "keep_checkpoints", "eval_every", "deadline_s")
"""Keys of ``grpo`` that change how far or how a run is watched, not what a step does."""


def stage_fingerprint(kind: str, config: RunConfig, inputs: Mapping[str, str]) -> str:
    """Of a stage: its part of the configuration, the code's version, and the fingerprints of what it builds on."""
    dumped = config.model_dump(mode="json")
    parts = {name: _pick(dumped, name) for name in SECTIONS[kind]}
    return _digest({"kind": kind, "version": r1rl.__version__, "config": parts, "inputs": dict(inputs)})


def training_fingerprint(config: RunConfig) -> str:
    """Of a checkpoint: a run may go on with more steps or other intervals, but not with another step."""
    dumped = config.model_dump(mode="json")
    parts = {name: _pick(dumped, name) for name in SECTIONS["grpo"]}
    extends = _EXTENDS if config.grpo.lr_schedule == "constant" else _EXTENDS[1:]
    parts["grpo"] = {key: value for key, value in parts["grpo"].items() if key not in extends}
    return _digest(parts)


def _pick(dumped: Mapping[str, Any], dotted: str) -> Any:
    value: Any = dumped
    for key in dotted.split("."):
        value = value[key]
    return value


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]

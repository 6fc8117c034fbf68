"""The engines by name; a new one is one file and one row here."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast

from r1rl.config import RunConfig
from r1rl.model.load import DTYPES, Policy
from r1rl.rollout.engine import Engine
from r1rl.rollout.torch_engine import TorchEngine

EngineFactory = Callable[[RunConfig, Policy], Engine]


def build_torch(cfg: RunConfig, policy: Policy) -> Engine:
    autocast = None if cfg.model.dtype == "float32" else DTYPES[cfg.model.dtype]
    return TorchEngine(policy, cfg.rollout.max_concurrent, autocast, cfg.model.cast_lm_head_to_fp32)


ENGINES: dict[str, EngineFactory | str] = {"torch": build_torch, "vllm": "r1rl.rollout.vllm.build:build"}
"""A builder, or where to import one from when it is needed."""


def build_engine(cfg: RunConfig, policy: Policy) -> Engine:
    """The engine that ``rollout.engine`` names, sampling from ``policy``."""
    build = ENGINES[cfg.rollout.engine]
    if isinstance(build, str):
        module, _, name = build.partition(":")
        build = cast(EngineFactory, getattr(importlib.import_module(module), name))
    return build(cfg, policy)

"""Builds the engine that a run samples with, by its name in :data:`r1rl.registry.ENGINES`."""

from __future__ import annotations

from collections.abc import Callable

from r1rl.config import RunConfig
from r1rl.model.load import DTYPES, Policy
from r1rl.registry import ENGINES
from r1rl.rollout.engine import Engine
from r1rl.rollout.torch_engine import TorchEngine

EngineFactory = Callable[[RunConfig, Policy], Engine]


def build_torch(cfg: RunConfig, policy: Policy) -> Engine:
    autocast = None if cfg.model.dtype == "float32" else DTYPES[cfg.model.dtype]
    return TorchEngine(policy, cfg.rollout.max_concurrent, autocast, cfg.model.cast_lm_head_to_fp32)


def build_engine(cfg: RunConfig, policy: Policy) -> Engine:
    """The engine that ``rollout.engine`` names, sampling from ``policy``.

    Raises: ConfigError where no engine has this name.
    """
    build: EngineFactory = ENGINES.load(cfg.rollout.engine)
    return build(cfg, policy)

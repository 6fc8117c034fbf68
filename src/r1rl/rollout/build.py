"""Builds the engine that a run samples with, by its name in :data:`r1rl.registry.ENGINES`."""

from __future__ import annotations

from collections.abc import Callable

from r1rl.config import RunConfig
from r1rl.errors import ConfigError
from r1rl.model.load import Policy
from r1rl.registry import ENGINES
from r1rl.rollout.engine import Engine, in_process
from r1rl.rollout.torch_engine import TorchEngine

EngineFactory = Callable[[RunConfig, Policy], Engine]


@in_process
def build_torch(cfg: RunConfig, policy: Policy) -> Engine:
    return TorchEngine.of(cfg, policy)


def build_engine(cfg: RunConfig, policy: Policy) -> Engine:
    """The engine that ``rollout.engine`` names, sampling from ``policy``.

    Raises: ConfigError where no engine has this name.
    """
    build: EngineFactory = ENGINES.load(cfg.rollout.engine)
    return build(cfg, policy)


def samples_in_process(cfg: RunConfig) -> bool:
    """Whether the engine samples with the policy that it is given, see :func:`r1rl.rollout.engine.in_process`.

    Raises: ConfigError where no engine has this name, or it cannot run ahead as ``rollout.max_staleness`` wants.
    """
    embedded: bool = getattr(ENGINES.load(cfg.rollout.engine), "samples_in_process", False)
    if embedded and cfg.rollout.max_staleness:
        raise ConfigError(
            f"rollout.max_staleness: engine {cfg.rollout.engine} samples with the learner's own weights, so samples "
            "are never stale; use 0, or engine: vllm"
        )
    return embedded

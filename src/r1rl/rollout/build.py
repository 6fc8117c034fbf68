"""Builds the engine that a run samples with, by its name in :data:`r1rl.registry.ENGINES`."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable

from r1rl.config import RunConfig
from r1rl.errors import ConfigError
from r1rl.model.load import Policy
from r1rl.registry import ENGINES
from r1rl.rollout.engine import Engine, in_process
from r1rl.rollout.torch_engine import TorchEngine

EngineFactory = Callable[[RunConfig, Policy], Engine]

log = logging.getLogger(__name__)
AUTO = "auto"


@in_process
def build_torch(cfg: RunConfig, policy: Policy) -> Engine:
    return TorchEngine.of(cfg, policy)


def choose(engine: str, on_gpu: bool) -> str:
    """The engine that ``rollout.engine`` means: ``auto`` is vLLM where it is installed and the policy is on a GPU."""
    if engine != AUTO:
        return engine
    return "vllm" if on_gpu and importlib.util.find_spec("vllm") is not None else "torch"


def decided(cfg: RunConfig, on_gpu: bool) -> RunConfig:
    """The configuration of a run with every ``rollout.engine: auto`` replaced by the engine that it stands for on this
    machine; the choice is logged."""
    stages = {name: stage.rollout or {} for name, stage in cfg.stages.items()}
    if AUTO not in (cfg.rollout.engine, *(rollout.get("engine") for rollout in stages.values())):
        return cfg
    engine, cfg = choose(AUTO, on_gpu), cfg.model_copy(deep=True)
    if cfg.rollout.engine == AUTO:
        cfg.rollout.engine = engine
    for stage in cfg.stages.values():
        if stage.rollout and stage.rollout.get("engine") == AUTO:
            stage.rollout["engine"] = engine
    if on_gpu:
        other = "is not installed: pip install 'r1rl[vllm]' makes sampling several times faster"
        log.info(
            "rollout.engine auto: vllm, as it is installed; rollout.engine=torch samples with the embedded engine"
            if engine == "vllm"
            else f"rollout.engine auto: torch, as vLLM {other}"
        )
    return cfg


def build_auto(cfg: RunConfig, policy: Policy) -> Engine:
    """The engine that ``auto`` stands for on the policy's device."""
    return build_engine(cfg, policy)


def build_engine(cfg: RunConfig, policy: Policy) -> Engine:
    """The engine that ``rollout.engine`` names, sampling from ``policy``.

    Raises: ConfigError where no engine has this name.
    """
    build: EngineFactory = ENGINES.load(choose(cfg.rollout.engine, policy.model.device.type == "cuda"))
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

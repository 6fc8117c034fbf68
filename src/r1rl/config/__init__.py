"""The configuration: pydantic models, loading, checking and writing back. Imports no torch."""

from r1rl.config.data import DataConfig, DatasetConfig, DifficultyConfig, PromptConfig
from r1rl.config.evaluate import EvaluateConfig
from r1rl.config.grpo import GRPOConfig, GuardConfig
from r1rl.config.load import dump_config, load_config, stage_config
from r1rl.config.model import LoraConfig, ModelConfig, TinyModelConfig
from r1rl.config.rewards import RewardConfig, ScoringConfig
from r1rl.config.rollout import DynamicSamplingConfig, RolloutConfig
from r1rl.config.run import HubConfig, PretrainConfig, RunConfig, StageConfig, stages_of
from r1rl.config.tracking import TrackingConfig

__all__ = [
    "DataConfig",
    "DatasetConfig",
    "DifficultyConfig",
    "DynamicSamplingConfig",
    "EvaluateConfig",
    "GRPOConfig",
    "GuardConfig",
    "HubConfig",
    "LoraConfig",
    "ModelConfig",
    "PretrainConfig",
    "PromptConfig",
    "RewardConfig",
    "RolloutConfig",
    "RunConfig",
    "ScoringConfig",
    "StageConfig",
    "TinyModelConfig",
    "TrackingConfig",
    "dump_config",
    "load_config",
    "stage_config",
    "stages_of",
]

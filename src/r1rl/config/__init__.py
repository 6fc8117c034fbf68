"""The configuration: pydantic models, loading, checking and writing back. Imports no torch."""

from r1rl.config.data import DataConfig, DatasetConfig, DifficultyConfig, PromptConfig
from r1rl.config.grpo import GRPOConfig, GuardConfig
from r1rl.config.kinds import final_stage
from r1rl.config.load import dump_config, load_config, stage_config
from r1rl.config.model import LoraConfig, ModelConfig, TinyModelConfig
from r1rl.config.rewards import RewardConfig, ScoringConfig
from r1rl.config.rollout import DynamicSamplingConfig, RolloutConfig
from r1rl.config.schema import HubConfig, RunConfig, StageConfig, stages_of
from r1rl.config.stages import (
    EvaluateConfig,
    ExportConfig,
    FilterConfig,
    LanguageFilterConfig,
    PretrainConfig,
    RewardModelConfig,
    RewriteConfig,
    SampleConfig,
    SFTConfig,
)
from r1rl.config.tracking import TrackingConfig

__all__ = [
    "DataConfig",
    "DatasetConfig",
    "DifficultyConfig",
    "DynamicSamplingConfig",
    "EvaluateConfig",
    "ExportConfig",
    "FilterConfig",
    "GRPOConfig",
    "GuardConfig",
    "HubConfig",
    "LanguageFilterConfig",
    "LoraConfig",
    "ModelConfig",
    "PretrainConfig",
    "PromptConfig",
    "RewardConfig",
    "RewardModelConfig",
    "RewriteConfig",
    "RolloutConfig",
    "RunConfig",
    "SFTConfig",
    "SampleConfig",
    "ScoringConfig",
    "StageConfig",
    "TinyModelConfig",
    "TrackingConfig",
    "dump_config",
    "final_stage",
    "load_config",
    "stage_config",
    "stages_of",
]

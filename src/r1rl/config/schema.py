"""The whole configuration of a run."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PrivateAttr

from r1rl.config.base import Origins, Section
from r1rl.config.data import DataConfig
from r1rl.config.grpo import GRPOConfig
from r1rl.config.model import ModelConfig
from r1rl.config.rewards import RewardConfig, ScoringConfig
from r1rl.config.rollout import RolloutConfig
from r1rl.config.stages import EvaluateConfig, ExportConfig, PretrainConfig, RewardModelConfig, SampleConfig, SFTConfig
from r1rl.config.tracking import TrackingConfig


class StageConfig(Section):
    """One stage of the recipe. Any section given here overrides the run's for this stage alone.

    ``${STAGE.model}`` and ``${STAGE.data}`` in a value stand for the outputs of an earlier stage.
    """

    kind: str
    """What the stage does: ``pretrain`` a base model, imitate (``sft``), learn by RL (``grpo``), draw and filter
    samples (``sample``), learn a preference (``reward_model``), measure (``evaluate``), or export a model (``export``);
    or ``module:name`` of your own kind."""
    launch: str | None = None
    """An ``accelerate`` configuration file, or the name of one that comes with r1rl (``cpu``, ``ddp``, ``zero1``,
    ``zero2``, ``zero3``, ``zero3-offload``, ``multinode``): the stage runs under ``accelerate launch`` with it, in
    separate processes. On GPUs a file that comes with r1rl gets one process per visible GPU that no vLLM server takes;
    your own file says how many. None runs it in the process of ``r1rl run``."""
    model: str | dict[str, Any] | None = None
    """Name of an earlier stage, a path, or a model section."""
    data: str | dict[str, Any] | None = None
    """Keys of ``data`` for this stage; a source set to null is left out. A single text, for example
    ``${rejection.data}``, is the only training source."""
    rollout: dict[str, Any] | None = None
    """Keys of ``rollout`` for this stage."""
    rewards: dict[str, Any] | None = None
    """Keys of ``rewards`` for this stage; a reward set to null is left out."""
    grpo: dict[str, Any] | None = None
    """Keys of ``grpo`` for this stage; another ``algorithm`` brings its own defaults."""
    pretrain: dict[str, Any] | None = None
    """Keys of ``pretrain`` for this stage."""
    evaluate: dict[str, Any] | None = None
    """Keys of ``evaluate`` for this stage."""
    sft: dict[str, Any] | None = None
    """Keys of ``sft`` for this stage."""
    sample: dict[str, Any] | None = None
    """Keys of ``sample`` for this stage."""
    reward_model: dict[str, Any] | None = None
    """Keys of ``reward_model`` for this stage."""
    export: dict[str, Any] | None = None
    """Keys of ``export`` for this stage."""
    args: dict[str, Any] | None = None
    """Keys of your own kind of stage."""


class HubConfig(Section):
    """Push the final model to the Hugging Face hub, once the stages are done.

    It is that of the last stage that trains a policy or exports one; of the reward model where there is neither.
    """

    repo: str
    """``user/name`` on the hub."""
    private: bool = True
    """Create it private; an existing repository keeps its visibility."""


class RunConfig(Section):
    """Everything a run needs; written back with every default filled in as RUN/config.yaml."""

    name: str = "run"
    """Name of the run; its folder."""
    output_dir: str = "runs"
    """The run folder is output_dir/name."""
    seed: int = Field(0, ge=0, lt=2**32)
    """All random choices follow from it; below 2³², as numpy requires."""
    threads: int | None = Field(None, ge=1)
    """CPU threads of torch; set it for results that are reproducible bit for bit. None takes OMP_NUM_THREADS, else the
    cores that this process may use (affinity, a container's limit), shared by the processes of a launcher."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the policy; auto uses CUDA if available."""
    model: ModelConfig = Field(default_factory=ModelConfig)
    data: DataConfig = Field(default_factory=DataConfig)
    rollout: RolloutConfig = Field(default_factory=RolloutConfig)
    rewards: dict[str, RewardConfig] = Field(default_factory=dict)
    scoring: ScoringConfig = Field(default_factory=ScoringConfig)
    grpo: GRPOConfig = Field(default_factory=GRPOConfig)
    pretrain: PretrainConfig = Field(default_factory=PretrainConfig)
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    sft: SFTConfig = Field(default_factory=SFTConfig)
    sample: SampleConfig = Field(default_factory=SampleConfig)
    reward_model: RewardModelConfig = Field(default_factory=RewardModelConfig)
    export: ExportConfig = Field(default_factory=ExportConfig)
    args: dict[str, Any] = Field(default_factory=dict)
    """Keys of your own kinds of stages; each kind defines which it accepts."""
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)
    hub: HubConfig | None = None
    stages: dict[str, StageConfig] = Field(default_factory=dict)
    """Stages in order; empty means one grpo stage called grpo followed by an evaluation."""
    _origins: Origins = PrivateAttr(default_factory=Origins)


def stages_of(run: RunConfig) -> dict[str, StageConfig]:
    """The stages in order; where none are written, one grpo stage and, if there is evaluation data, its evaluation."""
    if run.stages:
        return run.stages
    stages = {"grpo": StageConfig(kind="grpo")}
    if run.data.eval:
        stages["evaluate"] = StageConfig(kind="evaluate", model="grpo")
    return stages

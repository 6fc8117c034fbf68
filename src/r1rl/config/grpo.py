"""The learner: algorithm, optimizer, batching, guards."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from r1rl.config.base import NameIn, Section
from r1rl.registry import LOSSES, SCALES

Algorithm = Literal["r1", "dr_grpo", "dapo", "gspo", "cispo"]

# One key sets the defaults of the others. Sources: DeepSeek-R1 arXiv 2501.12948; Dr. GRPO 2503.20783; DAPO 2503.14476;
# GSPO 2507.18071; CISPO (MiniMax-M1) 2506.13585.
PRESETS: dict[str, dict[str, Any]] = {
    "r1": {"loss": "grpo", "scale_rewards": "group", "clip_low": 0.2, "clip_high": 0.2, "beta": 0.001},
    "dr_grpo": {"loss": "dr_grpo", "scale_rewards": "none", "clip_low": 0.2, "clip_high": 0.2, "beta": 0.0},
    "dapo": {
        "loss": "dapo",
        "scale_rewards": "group",
        "clip_low": 0.2,
        "clip_high": 0.28,
        "beta": 0.0,
        "dynamic_sampling": True,
    },
    "gspo": {"loss": "gspo", "scale_rewards": "group", "clip_low": 3e-4, "clip_high": 4e-4, "beta": 0.0},
    "cispo": {"loss": "cispo", "scale_rewards": "group", "clip_low": 1.0, "clip_high": 5.0, "beta": 0.0},
}

PRESET_KEYS = frozenset(name for preset in PRESETS.values() for name in preset)


class GuardConfig(Section):
    """What to do when a quantity leaves its bounds; a bound of None is off."""

    non_finite: Literal["stop", "skip"] = "stop"
    """A loss or gradient that is not finite: stop, with the state before that update saved; or skip it and count it."""
    action: Literal["stop", "warn"] = "warn"
    """What the other guards do: stop once the step is logged and saved, so that the same command resumes; or warn."""
    max_kl: float | None = None
    """Mean k3 divergence from the reference, nats per token."""
    min_entropy: float | None = None
    """Mean entropy of the policy, nats per token."""
    min_length: float | None = None
    """Mean completion length, tokens."""


class CovarianceConfig(Section):
    """How the losses clip_cov and kl_cov select tokens: by the product of their log-probability and their advantage,
    each minus its mean over the tokens of the update (arXiv 2505.22617)."""

    fraction: float = Field(2e-4, gt=0, le=1)
    """Share of an update's tokens, at least one (paper: 2e-4; 2e-3 for kl_cov on 7B)."""
    low: float = 1.0
    """clip_cov draws from the tokens whose product is above this bound."""
    high: float = 5.0
    """Upper bound of that product for clip_cov."""
    kl_coef: float = Field(1.0, ge=0)
    """Weight of kl_cov's penalty."""


class GRPOConfig(Section):
    """Group relative policy optimization (DeepSeekMath, arXiv 2402.03300; DeepSeek-R1, arXiv 2501.12948)."""

    former_names: ClassVar = {
        "scale": "scale_rewards",
        "lr": "learning_rate",
        "lr_schedule": "lr_scheduler_type",
    }

    algorithm: Algorithm = "r1"
    """Sets the defaults of loss, scale_rewards, clip_low, clip_high, beta and dynamic_sampling; a key that is set
    explicitly takes precedence."""
    steps: int = Field(1000, ge=1)
    """Rollouts of the run; each is followed by minibatches × epochs updates."""
    minibatches: int = Field(1, ge=1)
    """Updates per pass over a rollout (paper: 16)."""
    epochs: int = Field(1, ge=1)
    """Passes over each rollout (paper: 1)."""
    loss: Annotated[str, NameIn(LOSSES)] = "grpo"
    """The surrogate and its denominator; see the algorithms below. For your own, see docs/extending.md."""
    scale_rewards: Annotated[str, NameIn(SCALES)] = "group"
    """How rewards become advantages: the group's mean is subtracted, then they are divided by the standard deviation of
    the group, of the batch, or not at all; rloo, reinforce_pp, reinforce_pp_baseline and maxrl as in docs/algorithm.md.
    For your own, see docs/extending.md."""
    clip_low: float = Field(0.2, ge=0)
    """Lower ε: the ratio is clipped at 1 − clip_low."""
    clip_high: float = Field(0.2, ge=0)
    """Upper ε: the ratio is clipped at 1 + clip_high (paper's R1 stage: 10). For cispo the cap is 1 + clip_high."""
    beta: float = Field(0.001, ge=0)
    """Weight of the k3 KL term; 0 needs no reference policy."""
    entropy_coef: float = Field(0.0, ge=0)
    """Weight of an entropy bonus: the policy's mean entropy per token of the update, subtracted from the loss."""
    covariance: CovarianceConfig = Field(default_factory=CovarianceConfig)
    """Read where loss is clip_cov or kl_cov."""
    ref_update_every: int = Field(0, ge=0)
    """Updates after which the policy replaces the reference (paper: 400); 0 is never."""
    dynamic_sampling: bool = False
    """Resample groups that are all correct or all wrong; rollout.dynamic_sampling sets the reward and the bounds."""
    mask_truncated: bool = False
    """Leave completions cut at the length limit out of the loss; they still count in its denominator."""
    overlong_buffer: int = Field(0, ge=0)
    """Soft length penalty on every source: 0 until max_new_tokens − buffer, then linear to −1 (DAPO, eq. 13); 0 is
    off."""
    importance_cap: float = Field(2.0, ge=0)
    """Truncated importance sampling for engine mismatch: weight min(π_old / π_engine, cap); 0 switches it off."""
    sequence_mask: float | None = Field(None, gt=1)
    """Leave out completions whose π_old / π_engine, geometric mean over tokens, is not within 1/x and x; None is
    off. They still count in the losses' denominators."""
    learning_rate: float = Field(3e-6, gt=0)
    """Learning rate of AdamW (paper: 3e-6)."""
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate falls over the updates of the run."""
    lr_min_ratio: float = Field(0.0, ge=0, le=1)
    """Where a decaying schedule ends, as a share of learning_rate."""
    warmup_updates: int = Field(0, ge=0)
    """Updates of linear warm-up."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay of AdamW, applied to matrices only."""
    adam_betas: tuple[float, float] = (0.9, 0.95)
    """β₁ and β₂ of AdamW."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients with a larger norm are clipped to it."""
    tokens_per_microbatch: int = Field(16384, ge=16)
    """Token budget of a packed micro-batch, prompts included."""
    sequence_parallel: int = Field(1, ge=1)
    """Ranks that compute each row of tokens together, each holding a share of it (Ulysses), for samples that do not fit
    on one. Must divide the number of processes and the model's heads."""
    logprob_chunk: int = Field(4096, ge=1)
    """Tokens whose logits are in memory at once."""
    entropy_every: int = Field(1, ge=0)
    """Updates between logs of the policy's entropy; 0 is never."""
    guards: GuardConfig = Field(default_factory=GuardConfig)
    checkpoint_every: int = Field(100, ge=0)
    """Steps between checkpoints; 0 saves only at the end."""
    keep_checkpoints: int = Field(2, ge=1)
    """How many of the newest checkpoints are kept."""
    eval_every: int = Field(0, ge=0)
    """Steps between evaluations during training; 0 is never."""
    deadline_s: float = Field(1800.0, gt=0)
    """Longest wait for a collective or an engine before the run ends with an error."""

    @model_validator(mode="after")
    def _preset(self) -> Self:
        preset = PRESETS[self.algorithm]
        for name in PRESET_KEYS - self.model_fields_set:
            default = type(self).model_fields[name].default
            self.__dict__[name] = preset.get(name, default)  # not by assignment: a preset value does not count as set
        return self

"""The kinds of stages that come with r1rl: the one place that says what each of them is.

A new kind is a file of this package, an object here and a row of :data:`r1rl.registry.KINDS`;
:class:`r1rl.config.kinds.Kind` says what its fields mean. A kind of the user's own is a ``Kind`` anywhere, named in the
configuration as ``module:name``. Imports no torch.
"""

from __future__ import annotations

from r1rl.config import applied, checks
from r1rl.config.kinds import Kind
from r1rl.stages import cost

PRETRAIN = Kind(
    entry="r1rl.stages.pretrain:run",
    uses=("seed",),
    section="pretrain",
    outputs=frozenset({"model"}),
    policy=True,
    alone=True,
    checks=(checks.check_architecture,),
    parameters=cost.tiny_parameters,
    planned=cost.plan_pretrain,
    measured=cost.measure_trained,
    steps=cost.pretrain_steps,
)
"""Train a base model."""

SFT = Kind(
    entry="r1rl.stages.sft:run",
    uses=("seed", "model", "data"),
    section="sft",
    outputs=frozenset({"model"}),
    policy=True,
    evaluations="held_out",
    checks=(checks.check_training_data,),
    gold=False,
    columns=("sft.response",),
    rows=("data.train",),
    planned=cost.plan_sft,
    measured=cost.measure_trained,
)
"""Imitate."""

GRPO = Kind(
    entry="r1rl.stages.grpo:run",
    uses=("seed", "model", "data", "rollout", "rewards", "scoring", "evaluate.reward"),
    section="grpo",
    outputs=frozenset({"model"}),
    policy=True,
    evaluations="held_out",
    checks=(
        checks.check_groups,
        checks.check_sampling,
        checks.check_vllm,
        checks.check_lengths,
        checks.check_guards,
        checks.check_training_data,
        checks.check_rewards,
        checks.check_difficulty,
        checks.check_dynamic_sampling,
        checks.check_periodic_evaluation,
    ),
    applies=applied.training_applies,
    planned=cost.plan_grpo,
    measured=cost.measure_grpo,
    steps=cost.grpo_steps,
)
"""Learn by reinforcement."""

SAMPLE = Kind(
    entry="r1rl.stages.sample:run",
    uses=("seed", "model", "data", "rollout", "rewards", "scoring"),
    section="sample",
    outputs=frozenset({"data"}),
    evaluations="eval",
    checks=(checks.check_training_data, checks.check_sampled_rewards, checks.check_kept_rewards),
    applies=applied.sampling_applies,
    mixes={"sample.mix": ("sample.response",)},
    rows=("data.train", "sample.mix"),
    planned=cost.plan_sample,
    handed_on=cost.sampled_rows,
    measured=cost.measure_generated,
)
"""Draw completions and keep the good ones."""

REWARD_MODEL = Kind(
    entry="r1rl.stages.reward_model:run",
    uses=("seed", "model", "data"),
    section="reward_model",
    outputs=frozenset({"model"}),
    evaluations="held_out",
    checks=(checks.check_training_data,),
    gold=False,
    columns=("reward_model.chosen", "reward_model.rejected"),
    rows=("data.train",),
    planned=cost.plan_reward_model,
    measured=cost.measure_trained,
)
"""Learn a preference."""

EVALUATE = Kind(
    entry="r1rl.stages.evaluate:run",
    uses=("seed", "model", "data.eval", "data.prompt", "rollout", "rewards"),
    section="evaluate",
    quick=True,
    checks=(checks.check_evaluation_data, checks.check_evaluated_rewards),
    applies=applied.evaluation_applies,
    rows=("data.eval",),
    planned=cost.plan_evaluate,
)
"""Measure a model."""

EXPORT = Kind(
    entry="r1rl.stages.export:run",
    uses=("model", "data.prompt"),
    section="export",
    exports=True,
    alone=True,
    quick=True,
    planned=cost.plan_nothing,
)
"""Hand a model to others."""

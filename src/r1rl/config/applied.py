"""Which reward functions run on which source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from r1rl.config.data import DatasetConfig
from r1rl.config.kinds import Applies
from r1rl.config.rewards import RewardConfig
from r1rl.config.schema import RunConfig

SOFT_OVERLONG = "soft_overlong"
"""The reward that ``grpo.overlong_buffer`` switches on; it belongs to training and applies to every source."""


def training_rewards(run: RunConfig) -> dict[str, RewardConfig]:
    """The rewards of a grpo stage: the configured ones, and the soft length penalty where it is switched on."""
    rewards = dict(run.rewards)
    if run.grpo.overlong_buffer:
        args = {"max_length": run.rollout.max_new_tokens, "buffer": run.grpo.overlong_buffer}
        rewards.setdefault(SOFT_OVERLONG, RewardConfig(args=args))
    return rewards


def training_applies(run: RunConfig) -> Applies:
    """The rewards of the training sources of a grpo stage, and of its evaluation sources as :func:`held_out` names
    them: both splits of a dataset may have one name, with different rewards."""
    sources = run.data.train | {held_out(name): source for name, source in run.data.eval.items()}
    return applying(training_rewards(run), sources, (SOFT_OVERLONG,) if run.grpo.overlong_buffer else ())


def sampling_applies(run: RunConfig) -> Applies:
    """The rewards of the training sources of a stage that draws completions."""
    return applying(run.rewards, run.data.train)


def evaluation_applies(run: RunConfig) -> Applies:
    """The rewards of the sources of an evaluation."""
    return applying(run.rewards, run.data.eval)


def held_out(name: str) -> str:
    """The ``source`` of the problems of an evaluation source while a policy trains."""
    return f"eval/{name}"


def applying(
    rewards: Mapping[str, RewardConfig], sources: Mapping[str, DatasetConfig], everywhere: Iterable[str] = ()
) -> Applies:
    """The rewards of each source: those that it lists, and ``everywhere``.

    A source may list the soft length penalty in stages that do not train: there it is left out.
    """
    found: Applies = {}
    for name, source in sources.items():
        if source.rewards is None:
            found[name] = None
        else:
            listed = dict.fromkeys((*source.rewards, *everywhere))
            found[name] = [each for each in listed if each in rewards or each != SOFT_OVERLONG]
    return found


def idle(rewards: Mapping[str, RewardConfig], applies: Applies) -> list[str]:
    """The rewards that run on no source."""
    if not applies or None in applies.values():
        return []
    used = {name for listed in applies.values() for name in listed or ()}
    return [name for name in rewards if name not in used]

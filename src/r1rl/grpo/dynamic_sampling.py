"""Dynamic sampling: replaces groups that are all right or all wrong, from which nothing is learned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from r1rl.config.rollout import DynamicSamplingConfig
from r1rl.grpo.experience import PlainExperience
from r1rl.scoring.metrics import reward_metrics
from r1rl.types import Problem, ScoredGroup


class DynamicExperience:
    """Resample until enough groups are neither all right nor all wrong (DAPO, arXiv 2503.14476, section 3.2), bounded.

    With over-sampling a round asks for more groups than are missing and ends with the first useful ones. A step that
    ends short trains on the useful groups it has. With none at all it returns the last ones, which are logged and not
    learned from, as :meth:`useful` says; ``rollout/dynamic_useful`` is then 0.

    Args:
        reward: whose values must differ within a useful group.
    """

    def __init__(self, plain: PlainExperience, cfg: DynamicSamplingConfig, reward: str) -> None:
        self.plain, self.cfg, self.reward = plain, cfg, reward
        self._left: list[ScoredGroup] = []
        self._metrics: dict[str, float] = {}

    def collect(self, step: int) -> list[ScoredGroup]:
        prompts, wanted = self.plain.prompts, self.plain.prompts.wanted
        kept = self.plain.fresh(self._left)
        useful, last = list(kept), list[ScoredGroup]()
        drawn, sampled = list[Problem](), list[ScoredGroup]()
        for round in range(self.cfg.max_rounds):
            missing = max(0, wanted - len(useful))
            problems = prompts.draw(step, round, missing, drawn)
            drawn += problems
            last = self.plain.sample(step, round, problems, missing if prompts.oversample > 1 else None, self.useful)
            sampled += last
            useful += [group for group in last if self.useful(group)]
            if len(useful) >= wanted:
                break
        self._left = useful[wanted:]
        self._metrics = {
            "rollout/dynamic_rounds": round + 1,
            "rollout/dynamic_drawn": len(drawn),
            "rollout/dynamic_sampled": len(sampled),
            "rollout/dynamic_tokens": sum(len(c) for g in sampled for c in g.group.completions),
            "rollout/dynamic_useful": len(useful),
            "rollout/dynamic_kept": len(kept),
        } | sampled_rewards(sampled)
        return useful[:wanted] or last

    def useful(self, group: ScoredGroup) -> bool:
        """Whether both the configured reward and the sum of all rewards differ within the group, so that there is an
        advantage. Where that reward applies to none of its completions, the sum alone decides."""
        named = group.by_reward.get(self.reward, np.zeros(0))
        named = named[~np.isnan(named)]
        return self._differ(group.scored) and (not len(named) or self._differ(named))

    def _differ(self, values: np.ndarray) -> bool:
        return len(values) > 1 and bool(values.std() > self.cfg.min_std)

    def metrics(self) -> dict[str, float]:
        return self._metrics | self.plain.metrics()


def sampled_rewards(groups: Sequence[ScoredGroup]) -> dict[str, float]:
    """Each reward's mean over all groups that were sampled, including those that were replaced."""
    means = {name: value for name, value in reward_metrics(groups).items() if name.endswith("/mean")}
    return {f"rollout/dynamic_{name.removesuffix('/mean')}": value for name, value in means.items()}

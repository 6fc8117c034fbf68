"""Asynchronous sampling: how far ahead, how old, what is dropped."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest
from accelerate import Accelerator

from r1rl.config.rewards import RewardConfig, ScoringConfig
from r1rl.data.stream import PromptStream
from r1rl.distributed.interrupt import Interrupt
from r1rl.errors import EngineError
from r1rl.grpo.ahead import AheadExperience, staleness
from r1rl.grpo.experience import StepPrompts
from r1rl.rollout.collect import Rollouts
from r1rl.rollout.engine import FinishedGroups, Request
from r1rl.scoring import Scorer
from r1rl.types import Completion, Problem, SamplingParams

STEPS = 6


class Slow:
    """An engine whose requests finish when the test says so, on the weights of the moment they were asked for."""

    def __init__(self) -> None:
        self.version = 0
        self.asked: list[int] = []
        self.gates = [threading.Event() for _ in range(STEPS)]
        self.lag = 0

    def stream(self, requests: Sequence[Request], params: SamplingParams) -> FinishedGroups:
        step, version = len(self.asked), self.version - self.lag
        self.asked.append(version)
        self.gates[step].wait(10)
        for i, request in enumerate(requests):
            yield i, [Completion(np.array([5]), np.zeros(1, np.float32), "x", "stop", version) for _ in request.seeds]

    def sync(self, version: int) -> None:
        self.version = version

    def metrics(self) -> dict[str, float]:
        return {}

    def close(self) -> None: ...


@pytest.fixture
def scorer():
    with Scorer({"format": RewardConfig()}, ScoringConfig()) as made:
        yield made


def experience(engine: Slow, scorer: Scorer, ahead: int, deadline_s: float = 10.0) -> AheadExperience:
    problems = [Problem(str(i), (1, 2), "q") for i in range(8)]
    prompts = StepPrompts(PromptStream({"s": problems}, {"s": 1.0}, 0), 2)
    rollouts = Rollouts(engine, SamplingParams(4), 2, 0)
    return AheadExperience(
        prompts, rollouts, scorer, Accelerator(cpu=True), Interrupt(),
        staleness=ahead, steps=STEPS, deadline_s=deadline_s,
    )  # fmt: skip


@pytest.mark.parametrize("ahead", [1, 3])
def test_no_sample_is_older_than_allowed_and_none_is_asked_for_too_early(scorer: Scorer, ahead: int) -> None:
    engine = Slow()
    source = experience(engine, scorer, ahead)
    for gate in engine.gates:
        gate.set()
    for step in range(STEPS):
        groups = source.collect(step)
        assert len(groups) == 2
        ages = [engine.version - c.version for g in groups for c in g.group.completions]
        assert max(ages) <= ahead
        assert source.metrics()["rollout/staleness_max"] == max(ages) == min(step, ahead)
        assert source.metrics()["rollout/dropped_stale"] == 0
        engine.sync(step + 1)
    assert engine.asked == sorted(engine.asked)
    assert len(engine.asked) == STEPS, "nothing is sampled that no step will use"


def test_the_next_step_is_sampled_while_this_one_is_learned_from(scorer: Scorer) -> None:
    engine = Slow()
    source = experience(engine, scorer, 1)
    engine.gates[0].set()
    source.collect(0)
    for _ in range(1000):
        if len(engine.asked) == 2:
            break
        threading.Event().wait(0.01)
    assert engine.asked == [0, 0], "step 1 is under way before step 0 was learned from"
    for gate in engine.gates:
        gate.set()


def test_what_is_too_old_is_dropped_and_counted(scorer: Scorer) -> None:
    engine = Slow()
    engine.version, engine.lag = 5, 2
    source = experience(engine, scorer, 1)
    for gate in engine.gates:
        gate.set()
    assert source.collect(0) == []
    assert source.metrics()["rollout/dropped_stale"] == 2


def test_samples_that_never_come_end_in_an_error(scorer: Scorer) -> None:
    engine = Slow()
    with pytest.raises(EngineError, match="rank 0: the samples of step 0 did not arrive"):
        experience(engine, scorer, 1, deadline_s=0.2).collect(0)
    for gate in engine.gates:
        gate.set()


def test_the_histogram_counts_tokens() -> None:
    mixed = Completion(np.arange(4), np.zeros(4, np.float32), "", "stop", 3, np.array([3, 3, 4, 5], np.int32))
    plain = Completion(np.arange(4), np.zeros(4, np.float32), "", "stop", 5)
    numbers = staleness([mixed, plain], 5)
    assert numbers["rollout/staleness/2"] == 0.25
    assert numbers["rollout/staleness/1"] == 0.125
    assert numbers["rollout/staleness/0"] == 0.625
    assert numbers["rollout/staleness_mean"] == pytest.approx(0.625)
    assert numbers["rollout/mixed_versions"] == 0.5

"""Dynamic sampling that asks for more groups than it needs: what is taken, what is aborted, what is kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st

from r1rl.config import DynamicSamplingConfig, ModelConfig
from r1rl.config.rewards import RewardConfig, ScoringConfig
from r1rl.data.stream import PromptStream
from r1rl.distributed.interrupt import Interrupt, Interrupted
from r1rl.errors import TrainingError
from r1rl.grpo import experience
from r1rl.grpo.ahead import AheadExperience
from r1rl.grpo.dynamic_sampling import DynamicExperience
from r1rl.grpo.experience import PlainExperience, Quota, StepPrompts, any_group, check_gathered
from r1rl.model.load import load_policy
from r1rl.rollout.collect import Rollouts
from r1rl.rollout.engine import FinishedGroups, Request
from r1rl.rollout.torch_engine import TorchEngine
from r1rl.scoring import Scorer
from r1rl.types import Completion, Group, Problem, SamplingParams, ScoredGroup

WANTED, STEPS, SIZE = 3, 6, 2
PROBLEMS = [Problem(str(i), (1, 2 + i), "q") for i in range(40)]

REWARD = """
def mixed(completions, prompts, **kwargs):
    return [1.0 if "yes" in c else 0.0 for c in completions]
"""


@pytest.fixture
def scorer(tmp_path: Path):
    (tmp_path / "mixed.py").write_text(REWARD)
    with Scorer({"mixed": RewardConfig(function=f"{tmp_path / 'mixed.py'}:mixed")}, ScoringConfig()) as made:
        yield made


class Paced:
    """Finishes one group after another; those of even problems are useful. Counts what it sampled to the end.

    ``pace`` is asked before each group, with the number of this call and of the groups it has finished.
    """

    def __init__(self, pace: Callable[[int, int], object] = lambda call, done: None) -> None:
        self.version, self.pace = 0, pace
        self.asked: list[list[int]] = []
        self.ended: list[int] = []

    def stream(self, requests: Sequence[Request], params: SamplingParams) -> FinishedGroups:
        version, call = self.version, len(self.asked)
        self.asked.append([int(r.problem.id) for r in requests])
        for i, request in enumerate(requests):
            self.pace(call, i)
            self.ended.append(int(request.problem.id))
            texts = ["yes", "no" if int(request.problem.id) % 2 == 0 else "yes"]
            yield i, [Completion(np.array([5]), np.zeros(1, np.float32), t, "stop", version) for t in texts]

    def sync(self, version: int) -> None:
        self.version = version

    def metrics(self) -> dict[str, float]:
        return {}

    def close(self) -> None: ...


def parts(
    engine: Any, scorer: Scorer, longest: int = 4, oversample: float = 1.0, problems: Sequence[Problem] = PROBLEMS
) -> tuple:
    return (
        StepPrompts(PromptStream({"s": problems}, {"s": 1.0}, 0), WANTED, oversample),
        Rollouts(engine, SamplingParams(longest), SIZE, 0),
        scorer,
        Accelerator(cpu=True),
        Interrupt(),
    )


def dynamic(
    engine: Any,
    scorer: Scorer,
    oversample: float,
    rounds: int = 4,
    problems: Sequence[Problem] = PROBLEMS,
    **ahead: Any,
) -> DynamicExperience:
    given = parts(engine, scorer, oversample=oversample, problems=problems)
    plain = AheadExperience(*given, steps=STEPS, deadline_s=10.0, **ahead) if ahead else PlainExperience(*given)
    return DynamicExperience(plain, DynamicSamplingConfig(oversample=oversample, max_rounds=rounds), "mixed")


def ids(groups: Sequence[ScoredGroup]) -> list[int]:
    return [int(g.group.problem.id) for g in groups]


def test_a_round_ends_with_the_first_useful_groups(scorer: Scorer) -> None:
    engine = Paced()
    source = dynamic(engine, scorer, 4.0)
    for step in range(STEPS):
        engine.asked, engine.ended = [], []
        groups = source.collect(step)
        numbers = source.metrics()
        even = [i for i in engine.ended if i % 2 == 0]
        assert ids(groups) == even[:WANTED]
        assert len(engine.asked[0]) == 4 * WANTED
        if numbers["rollout/dynamic_rounds"] == 1:
            assert even[-1] == engine.ended[-1], "nothing was sampled after the last group that was needed"
        assert numbers["rollout/dynamic_sampled"] == len(engine.ended) <= numbers["rollout/dynamic_drawn"]
        assert numbers["rollout/dynamic_kept"] == 0, "on-policy, nothing is carried over"


def test_without_it_every_group_is_waited_for_and_draws_are_as_they_were(scorer: Scorer) -> None:
    engine = Paced()
    source = dynamic(engine, scorer, 1.0)
    source.collect(0)
    assert engine.asked[0] == [int(p.id) for p in source.plain.prompts.stream.batch(0, WANTED)]
    assert engine.ended == [i for asked in engine.asked for i in asked]


def test_over_sampling_is_of_what_is_missing_and_bounded(scorer: Scorer) -> None:
    engine = Paced()
    source = dynamic(engine, scorer, 1.1, rounds=2)
    groups = source.collect(0)
    first = [i for i in engine.asked[0] if i % 2 == 0]
    assert len(engine.asked[0]) == 4, "3 × 1.1, rounded up"
    if len(first) < WANTED:
        assert len(engine.asked[1]) == int(np.ceil((WANTED - len(first)) * 1.1))
        assert not set(engine.asked[0]) & set(engine.asked[1])
    assert len(engine.asked) <= 2
    assert all(i % 2 == 0 for i in ids(groups))
    all_yes = sum(i % 2 for i in engine.ended) / len(engine.ended)
    assert source.metrics()["rollout/dynamic_reward/mixed"] == pytest.approx((1 + all_yes) / 2), "replaced ones too"


@pytest.mark.parametrize("oversample", [1.0, 3.0])
def test_with_nothing_useful_the_last_groups_are_kept(scorer: Scorer, oversample: float) -> None:
    engine = Paced()
    source = dynamic(engine, scorer, oversample, rounds=2, problems=PROBLEMS[1::2])
    groups = source.collect(0)
    assert len(engine.asked) == 2
    assert ids(groups) == engine.asked[1]
    assert source.metrics()["rollout/dynamic_useful"] == 0


@pytest.mark.parametrize(
    ("rewards", "named", "useful"),
    [
        ([1.0, 0.7, 1.0, 0.9], [0, 0, 0, 0], False),  # all wrong: a length penalty is all that differs
        ([1.0, 0.7, 1.0, 0.9], [1, 1, 1, 1], False),
        ([1.0, 0.7, 1.0, 0.9], [1, 0, 1, 1], True),
        ([1.0, 1.0, 1.0, 1.0], [1, 0, 1, 1], False),  # right ones and wrong ones, and yet no advantage
        ([1.0, np.nan, 1.0, 1.0], [1, np.nan, 1, 1], False),  # what is unscored makes no difference
        ([1.0, 0.7, 1.0, 0.9], [np.nan] * 4, True),  # it does not apply here
        ([1.0, 0.7, 1.0, 0.9], None, True),
    ],
)
def test_a_group_is_useful_where_some_are_right_and_some_are_wrong(
    scorer: Scorer, rewards: list[float], named: list[float] | None, useful: bool
) -> None:
    completions = [Completion(np.array([5]), np.zeros(1, np.float32), "", "stop")] * 4
    by_reward = {} if named is None else {"accuracy": np.array(named, dtype=float)}
    group = ScoredGroup(Group(PROBLEMS[0], completions), np.array(rewards), by_reward)
    plain = PlainExperience(*parts(Paced(), scorer))
    assert DynamicExperience(plain, DynamicSamplingConfig(), "accuracy").useful(group) is useful


def test_a_step_whose_groups_were_all_too_old_says_so() -> None:
    with pytest.raises(TrainingError, match=r"rollout\.max_staleness"):
        check_gathered([])


def test_rewards_are_waited_for_only_where_they_could_complete_the_number() -> None:
    waits: list[int] = []

    def score(groups: list[Group], state: object) -> list[ScoredGroup]:
        waits.append(len(groups))
        return [ScoredGroup(g, np.array([0.0, float(int(g.problem.id) % 2)]), {}) for g in groups]

    scorer: Any = SimpleNamespace(score=score)
    quota = Quota(scorer, {"global_step": 0}, 3, lambda g: bool(g.rewards.std() > 0))
    blank = [Completion(np.array([5]), np.zeros(1, np.float32), "", "stop")] * 2
    taken = [quota.take((0, i), Group(Problem(str(i), (1,), ""), blank)) for i in (1, 2, 4, 3, 6, 5)]
    assert taken == [False, False, False, False, False, True]
    assert waits == [3, 2, 1], "not after every group"
    assert [place for place, _ in quota.scored()] == [(0, i) for i in (1, 2, 4, 3, 6, 5)]


@given(st.integers(0, 50), st.integers(1, 9))
def test_the_processes_shares_add_up(wanted: int, ranks: int) -> None:
    shares = []
    for rank in range(ranks):
        place: Any = SimpleNamespace(process_index=rank, num_processes=ranks)
        plain = PlainExperience(None, None, None, place, Interrupt())  # type: ignore[arg-type]
        quota = plain.quota(0, wanted, any_group)
        shares.append(quota.wanted)
        assert len(plain.share([PROBLEMS[0]] * wanted)) == quota.wanted, "what it samples suffices, if all is useful"
        assert quota.full == (quota.wanted == 0)
    assert sum(shares) == wanted


def test_the_torch_engine_stops_and_what_was_taken_is_what_it_would_have_sampled(
    tiny_folder: Path, scorer: Scorer
) -> None:
    policy = load_policy(ModelConfig(path=str(tiny_folder)), torch.device("cpu"))

    def first(useful: int | None) -> tuple[list[ScoredGroup], int]:
        engine = TorchEngine(policy, 8)
        plain = PlainExperience(*parts(engine, scorer, longest=40))
        groups = plain.sample(0, 0, PROBLEMS[:12], useful)
        return groups, sum(len(c) for g in groups for c in g.group.completions)

    everything, all_tokens = first(None)
    some, tokens = first(4)
    assert len(everything) == 12
    assert 4 <= len(some) < 12
    assert tokens < all_tokens
    assert ids(some) == sorted(ids(some))
    whole = {g.group.problem.id: [c.token_ids.tolist() for c in g.group.completions] for g in everything}
    assert all([c.token_ids.tolist() for c in g.group.completions] == whole[g.group.problem.id] for g in some)
    assert policy.model.training is False


def test_with_staleness_the_rest_runs_on_and_serves_the_next_step(scorer: Scorer) -> None:
    gates = [threading.Event() for _ in range(STEPS)]
    half = 3 * WANTED
    engine = Paced(lambda call, done: done < half or gates[call].wait(10))
    source = dynamic(engine, scorer, 6.0, staleness=1)
    groups = source.collect(0)
    assert len(groups) == WANTED, "the first half was enough: nobody waited for the rest"
    assert set(ids(groups)) <= set(engine.asked[0][:half])
    engine.sync(1)
    for gate in gates:
        gate.set()
    following = source.collect(1)
    assert len(following) == WANTED
    late = [g for g in following if {c.version for c in g.group.completions} == {0}]
    assert set(ids(late)) & set(engine.asked[0]), "what the first step left over came first"
    assert source.metrics()["rollout/dropped_stale"] == 0
    engine.sync(2)
    engine.sync(3)
    last = source.collect(2)
    assert all(engine.version - c.version <= 1 for g in last for c in g.group.completions), "and nothing too old"
    assert source.metrics()["rollout/dropped_stale"] > 0


def test_a_stop_on_one_process_is_told_to_the_others_in_the_gathering(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[list[Any]] = []

    def gather(own: list[Any]) -> list[Any]:
        sent.append(own)
        return [*own, *others]

    monkeypatch.setattr(experience, "gather", gather)
    engine, others = Paced(), list[Any]()
    source = PlainExperience(*parts(engine, scorer))
    source.interrupt.requested = True
    with pytest.raises(Interrupted):
        source.collect(0)
    assert sent == [[([], True)]]
    source.interrupt.requested = False
    others.append(([], True))
    with pytest.raises(Interrupted):
        source.collect(0)
    assert len(sent[1][0][0]) == WANTED, "this process had finished its own share"


def test_a_stop_during_sampling_ends_it(scorer: Scorer) -> None:
    engine = Paced(lambda call, done: done == 1 and setattr(source.interrupt, "requested", True))
    source = PlainExperience(*parts(engine, scorer))
    with pytest.raises(Interrupted):
        source.collect(0)
    assert len(engine.ended) == 2

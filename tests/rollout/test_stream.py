"""A stream of finished groups leaves nothing behind: between its items, at its end, and where it is left early."""

from __future__ import annotations

import gc
import weakref
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from r1rl.model.forward import PackedTokens, PolicyForward
from r1rl.model.load import Policy
from r1rl.rollout import torch_engine
from r1rl.rollout.engine import Request, complete
from r1rl.rollout.torch_engine import TorchEngine
from r1rl.types import Completion, Problem, SamplingParams

PARAMS = SamplingParams(24)
REQUESTS = [Request(Problem(str(i), (5, 6 + i), ""), (10 * i, 10 * i + 1)) for i in range(5)]


@pytest.fixture
def engine(tiny_policy: Policy) -> TorchEngine:
    return TorchEngine(tiny_policy, 4, torch.bfloat16)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Any]]:
    """What each stream allocates: its rows, keys and values."""
    made: list[weakref.ref[Any]] = []

    class Watched(torch_engine._Batch):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(weakref.ref(self))

    monkeypatch.setattr(torch_engine, "_Batch", Watched)
    return made


def assert_clean(engine: TorchEngine, training: bool) -> None:
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert not torch.is_autocast_enabled("cpu")
    assert all(module.training is training for module in engine.policy.model.modules())


@pytest.mark.parametrize("training", [True, False])
def test_between_items_and_after_the_last_everything_is_as_before(engine: TorchEngine, training: bool) -> None:
    engine.policy.model.train(training)
    seen = []
    for index, completions in engine.stream(REQUESTS, PARAMS):
        assert_clean(engine, training)
        assert len(completions) == 2
        seen.append(index)
    assert sorted(seen) == list(range(len(REQUESTS)))
    assert_clean(engine, training)


def test_what_the_caller_set_stays_set(engine: TorchEngine) -> None:
    finished = engine.stream(REQUESTS, PARAMS)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        next(finished)
        assert not torch.is_grad_enabled()
        assert torch.is_autocast_enabled("cpu")
    next(finished)
    assert_clean(engine, engine.policy.model.training)


def test_nothing_is_sampled_before_the_first_item(engine: TorchEngine, batches: list) -> None:
    engine.stream(REQUESTS, PARAMS).close()
    assert not batches


def test_an_early_end_drops_what_is_running(engine: TorchEngine, batches: list) -> None:
    engine.policy.model.train()
    finished = engine.stream(REQUESTS, PARAMS)
    next(finished)
    assert batches[0]() is not None
    finished.close()
    assert batches[0]() is None
    assert_clean(engine, True)
    for _ in engine.stream(REQUESTS, PARAMS):
        break
    assert batches[1]() is None


def test_an_error_of_the_caller_drops_what_is_running(engine: TorchEngine, batches: list) -> None:
    engine.policy.model.train()

    def consume() -> None:
        for index, _ in engine.stream(REQUESTS, PARAMS):
            raise KeyError(index)

    with pytest.raises(KeyError):
        consume()
    assert batches[0]() is None
    assert_clean(engine, True)


def test_an_error_inside_the_engine_leaves_nothing_set(engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.policy.model.train()
    finished = engine.stream(REQUESTS, PARAMS)
    next(finished)

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(torch_engine, "choose", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(finished)
    assert_clean(engine, True)


def test_a_stream_that_is_collected_as_garbage_leaves_nothing(engine: TorchEngine, batches: list) -> None:
    engine.policy.model.train()
    cycle: list[Any] = [engine.stream(REQUESTS, PARAMS)]
    cycle.append(cycle)
    next(cycle[0])
    del cycle
    gc.collect()
    assert batches[0]() is None
    assert_clean(engine, True)


def test_two_streams_and_a_whole_one_between_do_not_disturb_each_other(engine: TorchEngine) -> None:
    expected = tokens(complete(engine, REQUESTS, PARAMS))
    one, other = engine.stream(REQUESTS, PARAMS), engine.stream(REQUESTS, PARAMS)
    found = dict(islice(one, 2))
    first = next(other)
    assert tokens(complete(engine, REQUESTS, PARAMS)) == expected
    found |= dict(one)
    rest = dict([first, *other])
    for groups in (found, rest):
        assert tokens([groups[i] for i in range(len(REQUESTS))]) == expected


def logps(policy: Policy, request: Request, completion: Completion) -> torch.Tensor:
    row = [*request.problem.prompt_ids, *completion.token_ids.tolist()]
    packed = PackedTokens.build([row], [len(request.problem.prompt_ids)], torch.device("cpu"))
    return PolicyForward(policy.model, 1.0, 100)(packed)[0]


def tokens(groups: list) -> list[list[list[int]]]:
    return [[c.token_ids.tolist() for c in group] for group in groups]


def test_a_policy_can_be_trained_between_items_and_each_token_names_its_weights(tiny_policy: Policy) -> None:
    engine = TorchEngine(tiny_policy, 100)
    engine.sync(3)
    model = tiny_policy.model.train()
    assert model.generation_config is not None
    model.generation_config.eos_token_id = list(range(0, 300, 15))  # so that groups end at different times
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    requests = [Request(Problem(str(i), (5, 6 + i), ""), (2 * i, 2 * i + 1)) for i in range(20)]
    finished = engine.stream(requests, SamplingParams(60))
    first, completions = next(finished)
    assert all(c.version == 3 and c.versions is None for c in completions)
    before = logps(tiny_policy, requests[first], completions[0]).mean()
    before.backward()
    optimizer.step()
    engine.sync(4)
    rest = dict(finished)
    assert set(rest) == set(range(20)) - {first}
    mixed = [c for group in rest.values() for c in group if c.versions is not None]
    assert mixed, "some completions were running when the weights changed"
    for c in mixed:
        assert c.version == 3
        assert c.versions is not None
        assert set(c.versions.tolist()) == {3, 4}
        assert (np.diff(c.versions) >= 0).all()
    late = [Request(Problem("late", (5, 6), ""), (1, 2))]
    [fresh] = complete(engine, late, SamplingParams(20))
    for c in fresh:
        assert c.version == 4
        assert np.allclose(c.logps, logps(tiny_policy, late[0], c).detach().numpy(), atol=1e-5)


def test_weights_that_change_between_items_reach_what_is_running(tiny_policy: Policy) -> None:
    engine = TorchEngine(tiny_policy, 2)
    requests = [Request(Problem(str(i), (5, 6 + i), ""), (2 * i, 2 * i + 1)) for i in range(4)]
    finished = engine.stream(requests, SamplingParams(30))
    next(finished)
    with torch.no_grad():
        for parameter in tiny_policy.model.parameters():
            parameter.mul_(1.1)
    engine.sync(1)
    whole = [(requests[i], c) for i, group in finished for c in group if c.versions is None]
    assert whole, "some completions were begun after the change"
    for request, c in whole:
        assert c.version == 1
        assert np.allclose(c.logps, logps(tiny_policy, request, c).detach().numpy(), atol=1e-5)

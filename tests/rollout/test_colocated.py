"""The colocated engine's stream against a stand-in for vLLM's own engine, which needs no vLLM."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from r1rl.config.rollout import VLLMConfig
from r1rl.errors import EngineError
from r1rl.model.load import Policy
from r1rl.rollout.engine import Request, complete, rest
from r1rl.rollout.vllm.colocate import ColocatedEngine
from r1rl.types import Problem, SamplingParams

PARAMS = SamplingParams(4)
REQUESTS = [Request(Problem(str(i), (5, 6 + i), ""), (i, i + 10)) for i in range(4)]


class Stepped:
    """An ``LLM`` whose step finishes two of its requests, the last ones first."""

    def __init__(self) -> None:
        self.running: dict[str, int] = {}
        self.aborted: list[str] = []
        self.asleep = False
        self.log: list[str] = []
        """Transitions, as vLLM sees them."""
        self.llm_engine = self

    def add_request(self, name: str, prompt: dict[str, list[int]], params: Any) -> None:
        self.running[name] = prompt["prompt_token_ids"][-1]

    def step(self) -> list[Any]:
        assert not self.asleep
        return [_output(name, self.running.pop(name)) for name in list(self.running)[-2:]]

    def abort_request(self, names: list[str]) -> None:
        self.aborted += [name for name in names if self.running.pop(name, None) is not None]

    def sleep(self, level: int) -> None:
        assert not self.asleep
        self.asleep = True
        self.log.append("sleep")

    def wake_up(self, tags: list[str] | None) -> None:
        assert self.asleep
        self.asleep = tags is not None
        self.log.append(f"wake {tags or 'all'}")

    def init_weight_transfer_engine(self, info: object) -> None: ...

    def reset_prefix_cache(self) -> None: ...

    def get_weight_version(self) -> str:
        return "0"


def _output(name: str, token: int) -> Any:
    logps = SimpleNamespace(logprobs=[-0.5], start_indices=[0])
    one = SimpleNamespace(token_ids=[token], logprobs=logps, finish_reason="length", weight_versions=[])
    return SimpleNamespace(request_id=name, finished=True, outputs=[one, one])


@pytest.fixture
def engine(tiny_policy: Policy, monkeypatch: pytest.MonkeyPatch) -> ColocatedEngine:
    vllm: Any = ModuleType("vllm")
    vllm.SamplingParams = SimpleNamespace
    parameters: Any = ModuleType("vllm.sampling_params")
    parameters.RequestOutputKind = SimpleNamespace(FINAL_ONLY=1)
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", parameters)
    llm = Stepped()
    nothing: Any = SimpleNamespace(publish=_nothing, deliver=lambda *_: llm.log.append("weights"), close=_nothing)
    check: Any = SimpleNamespace(expect=_nothing, compare=_no_gap, prompts=[])
    monkeypatch.setattr("r1rl.rollout.vllm.colocate.InProcess.score", _nothing)
    return ColocatedEngine(llm, tiny_policy, VLLMConfig(), nothing, check, sleeps=True)


def _nothing(*_: object) -> None: ...


def _no_gap(*_: object) -> float:
    return 0.0


def test_groups_come_as_they_finish(engine: ColocatedEngine) -> None:
    finished = list(engine.stream(REQUESTS, PARAMS))
    assert [index for index, _ in finished] == [2, 3, 0, 1]
    assert all(c.token_ids.tolist() == [6 + index] for index, group in finished for c in group)
    assert [len(group) for group in complete(engine, [Request(Problem("", (1,), ""), ()), *REQUESTS], PARAMS)] == [
        0, 2, 2, 2, 2,
    ]  # fmt: skip


@pytest.mark.parametrize("end", ["close", "break", "error", "garbage"])
def test_what_is_left_early_is_aborted(engine: ColocatedEngine, end: str) -> None:
    leave(engine, end)
    assert not engine.llm.running
    assert len(engine.llm.aborted) == 2, "those that had finished in the same step were not running any more"
    assert len(complete(engine, REQUESTS, PARAMS)) == 4


def leave(engine: ColocatedEngine, end: str) -> None:
    if end == "close":
        finished = engine.stream(REQUESTS, PARAMS)
        next(finished)
        finished.close()
    elif end == "break":
        for _ in engine.stream(REQUESTS, PARAMS):
            break
    elif end == "error":
        with pytest.raises(KeyError):
            fail(engine)
    else:
        cycle: list[Any] = [engine.stream(REQUESTS, PARAMS)]
        cycle.append(cycle)
        next(cycle[0])
        del cycle
        gc.collect()


def fail(engine: ColocatedEngine) -> None:
    for index, _ in engine.stream(REQUESTS, PARAMS):
        raise KeyError(index)


def test_a_second_stream_or_a_sync_is_refused_while_one_is_open(engine: ColocatedEngine) -> None:
    finished = engine.stream(REQUESTS, PARAMS)
    next(finished)
    with pytest.raises(EngineError, match="finish or close its stream"):
        engine.sync(1)
    with pytest.raises(EngineError, match="finish or close its stream"):
        next(engine.stream(REQUESTS, PARAMS))
    with pytest.raises(EngineError, match="finish or close its stream"):
        engine.rest()
    assert len(list(finished)) == 3, "the open one is not disturbed"
    engine.sync(1)


def test_a_step_wakes_the_engine_once_and_puts_it_to_sleep_once(
    engine: ColocatedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = engine.llm.log
    monkeypatch.setattr("r1rl.rollout.vllm.colocate.free_cached", lambda: log.append("free"))
    assert log == ["sleep"], "it is built before the learner's first step"
    engine.sync(0)
    for version in (1, 2):
        log.clear()
        complete(engine, REQUESTS, PARAMS)
        complete(engine, REQUESTS, PARAMS)
        rest(engine)
        rest(engine)
        engine.sync(version)
        assert log == ["sleep", "free", "wake ['weights']", "weights", "free", "wake all"]
    engine.rest()
    complete(engine, REQUESTS, PARAMS)
    assert log[-3:] == ["sleep", "free", "wake all"], "sampling without a sync needs the memory too"


def test_engines_without_a_device_of_the_learner_have_nothing_to_give_back() -> None:
    rest(SimpleNamespace(stream=None))  # type: ignore[arg-type]


def test_the_deadline_is_kept_and_leaves_out_the_callers_time(
    engine: ColocatedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    phase = engine._phase
    clock = iter([0.0, 10.0, 500.0, 520.0, 521.0])
    monkeypatch.setattr("r1rl.rollout.vllm.colocate.time", SimpleNamespace(monotonic=lambda: next(clock)))

    def noted(name: str, seconds: float) -> Any:
        if name == "sampling":
            asked.append(seconds)
        return phase(name, seconds)

    monkeypatch.setattr(engine, "_phase", noted)
    list(engine.stream(REQUESTS, PARAMS))
    assert asked == [1800.0, 1790.0]


@pytest.mark.parametrize("joined", [True, False])
def test_closing_leaves_the_trainers_process_group(
    engine: ColocatedEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, joined: bool
) -> None:
    """What vLLM's engine does at its end: its own groups by name, then the default one."""

    def shutdown() -> None:
        torch.distributed.destroy_process_group(own)
        torch.distributed.destroy_process_group()

    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        own = torch.distributed.new_group([0])
        engine.joined = joined
        engine.llm.engine_core = SimpleNamespace(shutdown=shutdown)
        engine.close()
        assert torch.distributed.is_initialized() is joined
        if joined:
            torch.distributed.barrier()
            assert own not in torch.distributed.distributed_c10d._world.pg_map
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

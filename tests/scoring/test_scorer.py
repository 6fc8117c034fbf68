"""Scoring whole groups: order, background, weights, metrics, and errors that say what to change."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from r1rl.config.rewards import RewardConfig, ScoringConfig
from r1rl.errors import RewardError
from r1rl.scoring import Scorer
from r1rl.scoring.metrics import reward_metrics
from r1rl.types import Group

MakeGroup = Callable[..., Group]
RIGHT, WRONG = r"<think>9 · 2</think><answer>\boxed{18}</answer>", r"<think>9 + 2</think><answer>\boxed{11}</answer>"


def test_weighted_sum_in_order(scorer_of: Any, group: MakeGroup) -> None:
    scorer = scorer_of(accuracy=1.0, format={"weight": 0.5})
    groups = [group([RIGHT, WRONG], answer="18"), group([WRONG, WRONG, "no"], answer="11")]
    first, second = scorer.score(groups)
    assert first.group is groups[0]
    assert second.group is groups[1]
    np.testing.assert_array_equal(first.rewards, [1.5, 0.5])
    np.testing.assert_array_equal(second.rewards, [1.5, 1.5, 0.0])
    np.testing.assert_array_equal(first.by_reward["accuracy"], [1.0, 0.0])
    np.testing.assert_array_equal(first.by_reward["format"], [1.0, 1.0])


def test_conversational_prompts_give_messages(scorer_of: Any, group: MakeGroup) -> None:
    code = "def role(prompts, completions):\n    return [float(c[0]['role'] == 'assistant') for c in completions]\n"
    scorer = scorer_of(code, role={"function": ":role"}, accuracy=1.0)
    scored = scorer.score([group([RIGHT], prompt=[{"role": "user", "content": "?"}], answer="18")])
    np.testing.assert_array_equal(scored[0].rewards, [2.0])


def test_the_prefill_is_a_column(scorer_of: Any, group: MakeGroup) -> None:
    scorer = scorer_of(format=1.0)
    text = "9 · 2</think><answer>18</answer>"
    opened, plain = scorer.score([group([text], prefill="<think>\n"), group([text])])
    assert (opened.rewards[0], plain.rewards[0]) == (1.0, 0.0)


def test_submitted_groups_are_scored_in_the_background(scorer_of: Any, group: MakeGroup) -> None:
    code = "import time\ndef slow(completions):\n    time.sleep(0.3)\n    return [1.0] * len(completions)\n"
    scorer = scorer_of(code, slow={"function": ":slow"})
    groups = [group(["a"]), group(["b"])]
    started = time.monotonic()
    for one in groups:
        scorer.submit(one)
    assert time.monotonic() - started < 0.1
    time.sleep(0.9)
    started = time.monotonic()
    scorer.score(groups)
    assert time.monotonic() - started < 0.2


def test_submission_from_many_threads(scorer_of: Any, group: MakeGroup) -> None:
    scorer = scorer_of(accuracy=1.0)
    groups = [group([f"\\boxed{{{n}}}", f"\\boxed{{x+{n}}}"], answer=f"x+{n}" if n % 2 else str(n)) for n in range(40)]
    threads = [threading.Thread(target=scorer.submit, args=(one,)) for one in groups]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n, scored in enumerate(scorer.score(groups)):
        np.testing.assert_array_equal(scored.rewards, [0.0, 1.0] if n % 2 else [1.0, 0.0])


def test_sources_choose_their_rewards(scorer_of: Any, group: MakeGroup) -> None:
    scorer = scorer_of(accuracy=1.0, format=1.0, applies={"chat": ["format"], "math": None})
    math, chat = scorer.score([group([RIGHT], answer="18"), group([RIGHT], source="chat")])
    assert set(math.by_reward) == {"accuracy", "format"}
    assert set(chat.by_reward) == {"format"}


def test_what_no_function_scored_has_no_reward_and_is_counted(scorer_of: Any, group: MakeGroup) -> None:
    code = "def some(completions):\n    return [None if 'skip' in c else 2 for c in completions]\n"
    scorer = scorer_of(code, some={"function": ":some"})
    scored = scorer.score([group(["a", "skip", "b", "skip"])])[0]
    np.testing.assert_array_equal(scored.rewards, [2, np.nan, 2, np.nan])
    np.testing.assert_array_equal(scored.scored, [2, 2])
    np.testing.assert_array_equal(np.isnan(scored.by_reward["some"]), [False, True, False, True])
    metrics = reward_metrics([scored])
    assert metrics["reward/some/none"] == 0.5
    assert metrics["reward/some/mean"] == 2.0
    assert metrics["reward/some/std"] == 0.0
    assert metrics["reward/unscored"] == 0.5
    assert set(scorer.drain_metrics()) == {
        f"reward/some/{each}" for each in ("timeouts", "errors", "crashes", "lost", "p50_ms", "p99_ms")
    }
    assert scorer.drain_metrics() == {}


def test_none_beside_another_reward_adds_nothing(scorer_of: Any, group: MakeGroup) -> None:
    code = """
def some(completions):
    return [None if "skip" in c else 2 for c in completions]

def logged(completions):
    return [5.0] * len(completions)

def length(completions):
    return [None if c == "skip all" else len(c) for c in completions]
"""
    scorer = scorer_of(
        code,
        some={"function": ":some"},
        length={"function": ":length", "weight": 0.5},
        logged={"function": ":logged", "weight": 0.0},
    )
    scored = scorer.score([group(["a", "skip", "skip all"])])[0]
    np.testing.assert_array_equal(scored.rewards, [2.5, 2.0, np.nan])


def test_metrics_name_time_and_lost_checks(scorer_of: Any, group: MakeGroup) -> None:
    scorer = scorer_of(accuracy=1.0)
    hard = r"\boxed{\int_0^1 e^{\sin(x^{5})\cos(x)}\sqrt{\tan x} dx}"
    scorer.score([group([RIGHT, hard], answer="18")])
    metrics = scorer.drain_metrics()
    assert metrics["reward/accuracy/timeouts"] == 1
    assert metrics["reward/accuracy/errors"] == 0
    assert metrics["reward/accuracy/lost"] == 0.5
    assert metrics["verify/timeout"] == 1
    assert metrics["verify/correct"] == 1
    assert metrics["reward/accuracy/p99_ms"] >= metrics["reward/accuracy/p50_ms"] > 500


def test_numbers_never_start_a_worker(scorer_of: Any, group: MakeGroup) -> None:
    scorer = scorer_of(accuracy=1.0, format=1.0)
    scorer.score([group([RIGHT, WRONG, "#### 18", "It is $18."], answer="18")])
    assert scorer.checker.sandbox.pids() == []
    assert not scorer.checker.sandbox.started


def test_log_extra_and_log_metric(scorer_of: Any, group: MakeGroup) -> None:
    code = """
def logging(completions, log_extra, log_metric, **kwargs):
    log_extra("length", [len(c) for c in completions])
    log_metric("longest", max(len(c) for c in completions))
    return [0.0] * len(completions)
"""
    scorer = scorer_of(code, logging={"function": ":logging"})
    scored = scorer.score([group(["a", "bbb"]), group(["cc"])])
    assert scored[0].extras == {"length": [1, 3]}
    assert scorer.drain_metrics()["longest"] == 2.5


@pytest.mark.parametrize("given", ["[1]", "3", "'ab'"])
def test_an_extra_that_is_not_one_value_per_completion_is_refused(scorer_of: Any, group: MakeGroup, given: str) -> None:
    code = f"""
def logging(completions, log_extra):
    log_extra("odd", {given})
    return [0.0] * len(completions)
"""
    scorer = scorer_of(code, logging={"function": ":logging"})
    with pytest.raises(RewardError, match=r"log_extra\('odd'\) got .* for 2 completions"):
        scorer.score([group(["a", "b"])])


def test_the_trainer_state_reads_by_key_and_attribute(scorer_of: Any, group: MakeGroup) -> None:
    code = """
def late(completions, trainer_state):
    return [float(trainer_state.global_step + trainer_state["global_step"])] * len(completions)
"""
    scorer = scorer_of(code, late={"function": ":late"}, format=1.0)
    one = group(["a"])
    scorer.submit(one)
    assert scorer.score([one], {"global_step": 7})[0].by_reward["late"][0] == 14.0


def test_where_nothing_trains_the_step_is_0(scorer_of: Any, group: MakeGroup) -> None:
    code = (
        "def late(completions, trainer_state):\n    return [1 / (1 + trainer_state.global_step) for _ in completions]\n"
    )
    scorer = scorer_of(code, late={"function": ":late"})
    assert scorer.score([group(["a"])])[0].by_reward["late"][0] == 1.0


def test_async_functions_run_beside_each_other(scorer_of: Any, group: MakeGroup) -> None:
    code = """
import asyncio
async def slow(completions, **kwargs):
    await asyncio.sleep(0.3)
    return [1.0] * len(completions)
class Judge:
    def __init__(self, score):
        self.score = score
    async def __call__(self, completions, **kwargs):
        return [self.score] * len(completions)
"""
    scorer = scorer_of(code, slow={"function": ":slow"}, judge={"function": ":Judge", "args": {"score": 3.0}})
    started = time.monotonic()
    scored = scorer.score([group(["a"]) for _ in range(20)])
    assert time.monotonic() - started < 2.0
    assert all(one.rewards[0] == 4.0 for one in scored)


def test_a_sync_function_never_runs_beside_itself(scorer_of: Any, group: MakeGroup) -> None:
    code = """
import time
inside = 0
def alone(completions):
    global inside
    inside += 1
    seen = inside
    time.sleep(0.01)
    inside -= 1
    return [float(seen)] * len(completions)
"""
    scorer = scorer_of(code, alone={"function": ":alone"}, format=1.0, language=1.0)
    scored = scorer.score([group(["a"]) for _ in range(20)])
    assert {one.by_reward["alone"][0] for one in scored} == {1.0}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return [1.0]", r"'broken' returned 1 values for 2 completions; return one per completion"),
        ("return 1.0", r"'broken' returned float; return a list"),
        ("return None", r"'broken' returned NoneType; return a list"),
        ("return [float('nan'), 1.0]", r"'broken' returned nan for completion 0; return a finite number, or None"),
        ("return [1.0, float('inf')]", r"'broken' returned inf for completion 1"),
        ("return ['good', 1.0]", r"'broken' returned 'good' for completion 0; return a float, or None"),
        ("raise KeyError('answer')", r"'broken' raised KeyError at rewards.py:3: 'answer'"),
        ("raise TimeoutError('endpoint')", r"'broken' raised TimeoutError at rewards.py:3: endpoint"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "async "])
def test_a_broken_function_is_named(scorer_of: Any, group: MakeGroup, body: str, message: str, prefix: str) -> None:
    scorer = scorer_of(f"\n{prefix}def broken(completions):\n    {body}\n", broken={"function": ":broken"})
    with pytest.raises(RewardError, match=message):
        scorer.score([group(["a", "b"])])


def test_a_hang_in_the_trainer_stops_the_run(scorer_of: Any, group: MakeGroup) -> None:
    code = "import time\ndef hang(completions):\n    time.sleep(60)\n"
    scorer = scorer_of(code, limit_s=0.5, hang={"function": ":hang", "where": "trainer"})
    with pytest.raises(RewardError, match=r"'hang' ran for more than 0.5 s .* in the trainer, .*hang.where: process"):
        scorer.score([group(["a"]), group(["b"])])
    scorer.close()


@pytest.mark.parametrize("where", ["process", "trainer"])
def test_a_column_takes_the_place_of_nothing_that_is_bound(scorer_of: Any, group: MakeGroup, where: str) -> None:
    code = """
import functools
def scaled(completions, scale=1.0, **kwargs):
    assert set(kwargs) == {"prompts", "completion_ids", "prefill", "level"}, kwargs
    return [scale] * len(completions)
def made(scale):
    return functools.update_wrapper(functools.partial(scaled, scale=scale), scaled)
def first(scale, completions, **kwargs):
    return [scale] * len(completions)
positional = functools.partial(first, 4.0)
class Level:
    def __init__(self, level):
        self.level = level
    def __call__(self, completions, level):
        return [self.level + each for each in level]
"""
    scorer = scorer_of(
        code,
        scaled={"function": ":scaled", "args": {"scale": 0.5}, "where": where},
        made={"function": ":made", "args": {"scale": 2.0}, "where": where},
        positional={"function": ":positional", "where": where},
        level={"function": ":Level", "args": {"level": 10}, "where": where},
    )
    scored = scorer.score([group(["a"], scale=100.0, level=1)])[0]
    values = {name: given[0] for name, given in scored.by_reward.items()}
    assert values == {"scaled": 0.5, "made": 2.0, "positional": 4.0, "level": 11.0}


def test_the_options_of_shipped_rewards_are_no_columns(scorer_of: Any, group: MakeGroup) -> None:
    scorer = scorer_of(language=1.0, countdown=1.0, repetition={"args": {"penalty": -2.0}}, format=1.0)
    text = "<think>We multiply three and five.</think><answer>3 * 5</answer>"
    columns = {"nums": [3, 5], "target": 15, "n": 1, "penalty": 7.0, "answer_tags": False, "attempt": 0.5}
    scored = scorer.score([group([text], **columns)])[0]
    values = {name: given[0] for name, given in scored.by_reward.items()}
    assert values == {"language": 1.0, "countdown": 1.0, "repetition": 0.0, "format": 1.0}


def test_a_missing_option_of_a_shipped_reward_is_named(scorer_of: Any, group: MakeGroup) -> None:
    with pytest.raises(RewardError, match=r"'long' needs buffer; set rewards\.long\.args\.buffer"):
        scorer_of(long={"function": "soft_overlong", "args": {"max_length": 10}})


def test_a_missing_column_is_named(scorer_of: Any, group: MakeGroup) -> None:
    scorer = scorer_of("def f(completions, level):\n    return [1.0]\n", f={"function": ":f"})
    with pytest.raises(
        RewardError, match=r"'f' needs level, which source 'math' does not have \(its columns: answer\)"
    ):
        scorer.score([group(["a"], answer="1")])
    with pytest.raises(RewardError, match="accuracy needs a column `answer`"):
        scorer_of(accuracy=1.0).score([group(["a"])])


def test_a_submitted_error_is_raised_when_scores_are_asked_for(scorer_of: Any, group: MakeGroup) -> None:
    scorer = scorer_of("def f(completions, level):\n    return [1.0]\n", f={"function": ":f"})
    one = group(["a"])
    scorer.submit(one)
    with pytest.raises(RewardError, match="needs level"):
        scorer.score([one])


def test_unknown_names_in_applies(scorer_of: Any) -> None:
    with pytest.raises(RewardError, match="source 'chat' lists the reward 'acuracy'"):
        scorer_of(accuracy=1.0, applies={"chat": ["acuracy"]})


def test_it_works_inside_a_running_event_loop(scorer_of: Any, group: MakeGroup) -> None:
    scorer = scorer_of(accuracy=1.0)

    async def main() -> float:
        return float(scorer.score([group(["\\boxed{x+1}"], answer="1+x")])[0].rewards[0])

    assert asyncio.run(main()) == 1.0


def test_closing_ends_threads(group: MakeGroup) -> None:
    before = threading.active_count()
    with Scorer({"accuracy": RewardConfig(), "format": RewardConfig()}, ScoringConfig()) as scorer:
        scorer.score([group(["\\boxed{x+1}"], answer="1+x")])
        assert threading.active_count() > before
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threading.active_count() <= before


def test_threads_use_the_gpu_of_the_rank(scorer_of: Any, group: MakeGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: dict[str, int] = {}
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(
        torch.cuda, "set_device", lambda device: chosen.__setitem__(threading.current_thread().name, device)
    )
    code = "def plain(completions):\n    return [1.0]\n\n\nasync def awaited(completions):\n    return [1.0]\n"
    here = {"where": "trainer"}
    scorer = scorer_of(code, plain={"function": ":plain", **here}, awaited={"function": ":awaited", **here})
    np.testing.assert_array_equal(scorer.score([group(["a"])])[0].rewards, [2.0])
    assert chosen == {"r1rl-reward-plain": 3, "r1rl-scoring-loop": 3}

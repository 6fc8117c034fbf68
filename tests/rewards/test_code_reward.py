"""The code reward, as a run has it: by its registered name, through a scorer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from r1rl.config.rewards import RewardConfig, ScoringConfig
from r1rl.errors import RewardError, SandboxError
from r1rl.scoring.scorer import Scorer
from r1rl.tracking.names import undocumented
from r1rl.types import Completion, Group, Problem, ScoredGroup
from tests.support.bare_runner import BareRunner
from tests.support.waits import HANG_S

BARE = "tests.support.bare_runner:BareRunner"
MakeScorer = Callable[..., Scorer]
ADD = {"input_output": json.dumps({"inputs": ["1 2", "4 5"], "outputs": ["3", "9"]})}


def block(program: str) -> str:
    return f"<think>x</think>\n<answer>\n```python\n{program}\n```\n</answer>"


def group(texts: list[str], **columns: Any) -> Group:
    ids = np.arange(3)
    problem = Problem("p", (1,), "Add.", columns, source="code")
    return Group(problem, [Completion(ids, np.zeros(3, dtype=np.float32), text, "stop") for text in texts])


@pytest.fixture
def scorer_of() -> Iterator[MakeScorer]:
    made: list[Scorer] = []

    def make(scoring: ScoringConfig | None = None, **args: Any) -> Scorer:
        config = RewardConfig(function="code", args={"runner": BARE, "wall_s": HANG_S, **args})
        made.append(Scorer({"code": config}, scoring or ScoringConfig()))
        return made[-1]

    yield make
    for scorer in made:
        scorer.close()


def values(scored: list[ScoredGroup]) -> list[float]:
    return [float(value) for each in scored for value in each.by_reward["code"]]


RIGHT = block("print(sum(map(int, input().split())))")
HALF = block("print(3)")
NEVER = block("raise SystemExit(1)")
NO_PROGRAM = "<think>x</think>\n<answer>3</answer>"


def test_a_group_and_its_metrics(scorer_of: MakeScorer) -> None:
    scorer = scorer_of()
    scored = scorer.score([group([RIGHT, HALF, NEVER, NO_PROGRAM], **ADD)])
    assert values(scored) == [1.0, 0.0, 0.0, 0.0]
    assert scored[0].extras == {"verdict": ["passed", "wrong", "runtime_error", "no_program"]}
    metrics = scorer.drain_metrics()
    shares = {name: metrics[f"code/{name}"] for name in ("passed", "wrong", "runtime_error", "no_program", "time")}
    assert shares == {"passed": 0.25, "wrong": 0.25, "runtime_error": 0.25, "no_program": 0.25, "time": 0.0}
    assert metrics["code/tests"] == pytest.approx(1.5 / 4)
    assert not undocumented(metrics)


def test_share_of_the_tests(scorer_of: MakeScorer) -> None:
    assert values(scorer_of(credit="share").score([group([RIGHT, HALF, NEVER], **ADD)])) == [1.0, 0.5, 0.0]
    assert values(scorer_of(max_tests=1).score([group([RIGHT, HALF, NEVER], **ADD)])) == [1.0, 1.0, 0.0]


def test_conversations_and_prefills(scorer_of: MakeScorer) -> None:
    problem = Problem("p", (1,), [{"role": "user", "content": "Add."}], ADD, prefill="<think>\n")
    text = RIGHT.removeprefix("<think>")
    scored = scorer_of().score([Group(problem, [Completion(np.arange(1), np.zeros(1, np.float32), text, "stop")])])
    assert values(scored) == [1.0]


def test_rows_without_tests_and_with_broken_ones_have_no_reward(scorer_of: MakeScorer) -> None:
    scorer = scorer_of()
    scored = scorer.score([group([RIGHT], input_output=None), group([RIGHT], input_output="{"), group([RIGHT], **ADD)])
    assert np.isnan(values(scored)).tolist() == [True, True, False]
    metrics = scorer.drain_metrics()
    assert metrics["reward/code/errors"] == 1.0
    assert metrics["code/unjudged"] == 0.5


def test_a_column_with_tests_is_needed(scorer_of: MakeScorer) -> None:
    with pytest.raises(RewardError, match="code: no column has tests"):
        scorer_of().score([group([RIGHT], answer="3")])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"credit": "half"}, "credit is 'half'"),
        ({"language": "cobol"}, "has no 'cobol'; it runs: python"),
        ({"runner": "pistn"}, "did you mean 'piston'"),
        ({"checker": "no_such_module:check"}, "checker module 'no_such_module'"),
        ({"memory": 3}, "takes no argument 'memory'; did you mean 'memory_mb'"),
    ],
)
def test_mistakes_are_named_before_anything_runs(scorer_of: MakeScorer, args: dict[str, Any], message: str) -> None:
    with pytest.raises(RewardError, match=message):
        scorer_of(**args)


def test_a_checker_of_ones_own(scorer_of: MakeScorer, tmp_path: Path) -> None:
    file = tmp_path / "checks.py"
    file.write_text("def longer(stdin, expected, output):\n    return len(output) > len(expected)\n")
    scored = scorer_of(checker=f"{file}:longer").score([group([block("print('x' * 9)"), RIGHT], **ADD)])
    assert values(scored) == [1.0, 1.0]
    scored = scorer_of(checker=f"{file}:longer").score([group([block("print(end='')")], **ADD)])
    assert values(scored) == [0.0]


class Slow(BareRunner):
    """Takes longer than the time that a reward function has, one program at a time."""

    def __init__(self, workers: int, limits: Any) -> None:
        super().__init__(1, limits)

    def run(self, *given: Any) -> Any:
        time.sleep(0.3)
        return super().run(*given)


def test_waiting_for_other_programs_is_not_too_slow(scorer_of: MakeScorer) -> None:
    scorer = scorer_of(ScoringConfig(function_timeout_s=0.4, max_lost=1), runner=f"{__name__}:Slow")
    scored = scorer.score([group([RIGHT, RIGHT], **ADD) for _ in range(2)])
    assert values(scored) == [1.0] * 4


class Broken(BareRunner):
    """A back end that has gone away."""

    def submit(self, *given: Any, **named: Any) -> Any:
        raise SandboxError("it is gone")


def test_a_back_end_that_fails_costs_rewards_and_then_the_run(scorer_of: MakeScorer) -> None:
    scorer = scorer_of(runner=f"{__name__}:Broken")
    scored = scorer.score([group([RIGHT] * 4, **ADD)])
    assert np.isnan(values(scored)).all()
    assert scorer.drain_metrics()["reward/code/errors"] == 4.0
    with pytest.raises(RewardError, match="32 programs in a row could not be run: it is gone"):
        scorer.score([group([RIGHT] * 40, **ADD)])


class Closing(BareRunner):
    closed = 0

    def close(self) -> None:
        type(self).closed += 1
        super().close()


def test_the_runner_ends_with_the_scorer(scorer_of: MakeScorer) -> None:
    before = Closing.closed
    scorer = scorer_of(runner=f"{__name__}:Closing")
    scorer.close()
    assert Closing.closed == before + 1


def test_in_a_process_of_its_own(scorer_of: MakeScorer) -> None:
    config = RewardConfig(function="code", args={"runner": BARE}, where="process")
    with Scorer({"code": config}, ScoringConfig()) as scorer:
        assert values(scorer.score([group([RIGHT, HALF], **ADD)])) == [1.0, 0.0]

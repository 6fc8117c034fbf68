"""The toy programs: right by construction, disjoint splits, a corpus of mixed quality."""

from __future__ import annotations

import random

from r1rl.data.toy.arithmetic import is_held_out
from r1rl.data.toy.programs import WRITERS, applied, document, draw_steps, problems, question, stages
from r1rl.programs.blocks import last_block
from r1rl.programs.calls import CallTests
from r1rl.programs.formats import read_tests


def test_the_expression_is_what_the_question_says() -> None:
    rng = random.Random(0)
    for _ in range(300):
        steps = draw_steps(rng, 1, 5)
        for x in (-3, 0, 8):
            assert eval(stages(steps)[-1], {"x": x}) == applied(steps, x)
    assert question([("+", 3), ("*", 2)]) == "Write f(x): add 3, multiply by 2."
    assert stages([("+", 3), ("*", 2)]) == ["x+3", "(x+3)*2"]


def test_the_tests_tell_any_two_functions_apart() -> None:
    row = problems("train", 1)[0]
    tests = read_tests(row)
    assert isinstance(tests, CallTests)
    assert {call.function for call in tests.calls} == {"f"}
    assert len({call.args[0] for call in tests.calls}) >= 2, "a line is fixed by two points"


def test_splits_are_disjoint_and_the_corpus_keeps_away_from_one() -> None:
    train, test = ({row["question"] for row in problems(split, 200)} for split in ("train", "test"))
    assert not train & test
    assert all(map(is_held_out, test))
    assert problems("test", 5, seed=3) == problems("test", 5, seed=3)
    rng = random.Random(1)
    asked = [document(rng)[0].removeprefix("User: ").partition("\n")[0] for _ in range(500)]
    assert not any(map(is_held_out, asked))


def test_writers() -> None:
    rng = random.Random(2)
    right: dict[str, float] = {}
    for writer in WRITERS:
        found = 0
        for _ in range(100):
            steps = draw_steps(rng)
            program = last_block(writer(rng, steps))
            scope: dict[str, object] = {}
            exec(program or "def f(x): return None", scope)
            found += all(scope["f"](x) == applied(steps, x) for x in (-7, 0, 1, 12))  # type: ignore[operator]
        right[writer.__name__] = found / 100
    assert right["careful"] == right["untagged"] == 1.0
    assert 0.1 < right["slipping"] < 0.8
    assert right["hasty"] < 0.2
    assert right["blunt"] == 0.0

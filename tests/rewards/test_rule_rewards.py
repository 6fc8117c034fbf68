"""Each rule-based reward against its paper's formula or a peer's implementation."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1rl.errors import R1Error
from r1rl.tracking.names import undocumented
from r1rl_rewards.accuracy import accuracy
from r1rl_rewards.cosine import cosine
from r1rl_rewards.countdown import countdown
from r1rl_rewards.format import format
from r1rl_rewards.length import length
from r1rl_rewards.repetition import repetition
from r1rl_rewards.soft_overlong import soft_overlong
from r1rl_rewards.texts import part_of, summary_of, texts_of, thought_of

RIGHT, WRONG = r"\boxed{18}", r"\boxed{19}"


def ids(*lengths: int) -> list[list[int]]:
    return [list(range(count)) for count in lengths]


def test_accuracy_golds() -> None:
    assert accuracy([RIGHT, WRONG], answer=["18", "18"]) == [1.0, 0.0]
    assert accuracy([RIGHT, RIGHT], answer=[18, 18.0]) == [1.0, 1.0]
    assert accuracy([RIGHT, RIGHT], answer=[["17", "18"], ["17", "19"]]) == [1.0, 0.0]
    assert accuracy([RIGHT, RIGHT], answer=[None, []]) == [None, None]
    assert accuracy([RIGHT, RIGHT], answer=["9 · 2 = 18\n#### 18", r"so $\boxed{18}$"]) == [1.0, 1.0]
    assert accuracy([RIGHT], solution=[r"$18$"]) == [1.0]
    assert accuracy([[{"role": "assistant", "content": RIGHT}]], answer=["18"]) == [1.0]
    with pytest.raises(ValueError, match="column `answer`"):
        accuracy([RIGHT])


def test_accuracy_by_place() -> None:
    texts = [RIGHT, "<answer>18</answer>", "The answer is 18."]
    golds = ["18"] * 3
    assert accuracy(texts, answer=golds) == [1.0, 1.0, 1.0]
    assert accuracy(texts, answer=golds, require="box") == [1.0, 0.0, 0.0]
    assert accuracy(texts, answer=golds, require="answer_tag") == [0.0, 1.0, 0.0]
    assert length(texts, ids(9, 9, 9), answer=golds, require="box") == [0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="choose one of box, answer_tag, any"):
        accuracy(texts, answer=golds, require="tag")  # type: ignore[arg-type]


def test_accuracy_counts_the_rules_that_found_answers() -> None:
    logged: dict[str, float] = {}
    texts = [RIGHT, "<answer>18</answer>", "The answer is 18.", "18", "I see $18$", "#### 18", "none", "$(18"]
    accuracy(texts, answer=["18"] * 8, log_metric=logged.__setitem__)
    rules = ("box", "answer_tag", "hashes", "phrase", "formula", "bare")
    assert logged == {**{f"verify/found_{rule}": 1 / 8 for rule in rules}, "verify/found_none": 2 / 8}
    assert undocumented(logged) == []
    accuracy(texts, answer=["18"] * 8, log_metric=logged.__setitem__, require="box")
    assert logged["verify/found_none"] == 7 / 8


def test_format_without_answer_tags() -> None:
    texts = ["<think>a</think> 18", "<think>a</think>", "<think>a</think> <answer>18</answer>", "a</think> 18"]
    assert format(texts, answer_tags=False) == [1.0, 0.0, 0.0, 0.0]
    assert format(texts, prefill=["<think>"] * 4, answer_tags=False) == [1.0, 0.0, 0.0, 1.0]


def test_soft_overlong_is_equation_13() -> None:
    rewards = pytest.importorskip("trl.rewards")
    oracle = rewards.get_soft_overlong_punishment(max_completion_len=100, soft_punish_cache=20)
    lengths = [0, 1, 79, 80, 81, 90, 99, 100, 101, 1000]
    assert soft_overlong(ids(*lengths), max_length=100, buffer=20) == pytest.approx(oracle(ids(*lengths)))
    assert soft_overlong(ids(90), max_length=100, buffer=20) == [-0.5]
    with pytest.raises(ValueError, match="0 < buffer <= max_length"):
        soft_overlong(ids(1), max_length=10, buffer=11)


def test_cosine_is_the_published_one() -> None:
    rewards = pytest.importorskip("trl.rewards")
    oracle = rewards.get_cosine_scaled_reward(max_len=100)
    texts = [RIGHT, WRONG] * 5
    tokens = ids(0, 0, 10, 10, 50, 50, 100, 100, 300, 300)
    messages = [[{"role": "assistant", "content": f"${text}$"}] for text in texts]
    expected = oracle(messages, ["$18$"] * 10, tokens)
    assert cosine(texts, tokens, answer=["18"] * 10, max_length=100) == pytest.approx(expected)
    assert cosine([RIGHT], ids(3), answer=[None], max_length=100) == [None]


def test_length_prefers_short_right_answers_in_the_group() -> None:
    texts = [RIGHT, RIGHT, WRONG, WRONG, RIGHT]
    assert length(texts, ids(10, 20, 10, 20, 15), answer=["18"] * 5) == [0.5, -0.5, 0.0, -0.5, 0.0]
    assert length(texts, ids(7, 7, 7, 7, 7), answer=["18"] * 5) == [0.0] * 5
    assert length([RIGHT], ids(7), answer=[None]) == [None]


def test_repetition_counts_repeated_ngrams() -> None:
    assert repetition([[1, 2, 3, 4, 5, 6, 7, 8]], n=3) == [0.0]
    assert repetition([[1, 1, 1, 1, 1]], n=3) == [pytest.approx(-2 / 3)]
    assert repetition([[1, 2]], n=3) == [0.0]
    assert repetition([[7] * 1000], n=8, penalty=-2.0)[0] == pytest.approx(-2.0, abs=0.01)
    with pytest.raises(ValueError, match="n >= 1"):
        repetition([[1]], n=0)


@given(st.lists(st.lists(st.integers(0, 3), max_size=40), min_size=1, max_size=4), st.integers(1, 6))
def test_repetition_stays_within_bounds(tokens: list[list[int]], n: int) -> None:
    for value in repetition(tokens, n=n):
        assert -1.0 < value <= 0.0
        assert not math.isnan(value)


def test_countdown_needs_its_columns_and_an_answer() -> None:
    assert countdown(["no answer here"], nums=[[1, 2]], target=[3]) == [0.0]
    assert countdown([r"\boxed{1 + 2}"], nums=[[1, 2]], target=[3]) == [1.0]
    assert countdown(["1 + 2</think><answer>2 + 1</answer>"], [[1, 2]], [3], prefill=["<think>"]) == [1.0]
    assert countdown(["<think><answer>2 + 1</answer>"], [[1, 2]], [3]) == [0.0]


def test_parts_of_a_text() -> None:
    text = "<think>a</think> b"
    assert (thought_of(text), summary_of(text), part_of(text, "response")) == ("a", " b", text)
    assert (thought_of("plain"), summary_of("plain")) == ("plain", "plain")
    assert (thought_of("<think>open"), summary_of("<think>open")) == ("open", "")
    assert thought_of("closed</think> b") == "closed"
    assert texts_of(["x", [{"role": "assistant", "content": "y"}]], ["<think>", ""]) == ["<think>x", "y"]
    assert texts_of(["<think>x"], ["<think>\n"]) == ["<think>x"]


def test_errors_are_for_people() -> None:
    assert not issubclass(ValueError, R1Error)  # a reward's own ValueError is wrapped with its name by the scorer

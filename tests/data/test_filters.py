"""Rules on the text of a sample, repetition, contamination."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1rl.config import FilterConfig, LanguageFilterConfig
from r1rl.data.filters import Contamination, failed_rule, has_thought, longest_paragraph, repetition, words
from r1rl_rewards.language import language

GOOD = " <think>first add then compare</think>\n<answer>4</answer>"
EVALUATED = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many?"


def share(text: str, target: str) -> float:
    return float(language([text], target=target)[0] or 0.0)


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        (GOOD, "stop", None),
        (GOOD, "length", "truncated"),
        ("no thought at all", "stop", "thought"),
        (" <think></think> 4", "stop", "thought"),
        (" <think>a</think> <think>b</think> 4", "stop", "thought"),
        (" <think>first 然后 then 完成</think> 4", "stop", "language"),
        (" <think>先加后减 然后 完成</think> 4", "stop", None),
        (f" <think>{'the ladder is long and the road is short ' * 60}</think> 4", "stop", "paragraph"),
        (" <think>so\n```python\nprint(4)\n```\n</think> 4", "stop", "code"),
        (f" <think>{'wait let me check the whole of it again ' * 9}</think> 4", "stop", "repetition"),
    ],
)
def test_first_broken_rule(text: str, finish: str, reason: str | None) -> None:
    assert failed_rule(text, finish, 10, FilterConfig(), share) == reason


def test_each_rule_can_be_off() -> None:
    off = FilterConfig(
        truncated=False, thought=False, language=None, max_paragraph_words=None, code_blocks=False, max_repetition=None
    )
    assert failed_rule("```\n" + "again and again " * 500, "length", 1, off, share) is None


def test_a_target_language_excludes_the_others() -> None:
    rules = FilterConfig(language=LanguageFilterConfig(target="en"))
    assert failed_rule(" <think>先加后减 然后 完成</think> 4", "stop", 9, rules, share) == "language"
    assert failed_rule(GOOD, "stop", 9, rules, share) is None


@given(st.text())
def test_rules_stand_any_text(text: str) -> None:
    failed_rule(text, "stop", 1, FilterConfig(), share)
    assert 0 <= repetition(text) <= 1
    assert longest_paragraph(text) >= 0
    assert has_thought(text) in (True, False)


def test_contamination_is_found_inside_other_texts() -> None:
    found = Contamination([EVALUATED], n=10)
    assert found.found_in(f"Consider this. {EVALUATED.upper()} And now you.")
    assert found.found_in("well: natalia sold clips — to 48 of her “friends” in April; and so on")
    assert not found.found_in("Natalia sold clips to 48 of her cousins in June.")


def test_short_problems_count_whole() -> None:
    found = Contamination(["What is 3+5-2?"], n=10)
    assert found.found_in("User: What is 3 + 5 - 2?")
    assert not found.found_in("What is 3+5-2+4?")
    assert not found.found_in("What is 3-5+2?")
    assert not found.found_in("")


@given(st.lists(st.sampled_from("abcdefg"), min_size=10, max_size=30), st.text(max_size=20), st.text(max_size=20))
def test_a_planted_problem_is_always_found(problem: list[str], before: str, after: str) -> None:
    text = " ".join(problem)
    assert Contamination([text], n=10).found_in(f"{before} . {text} . {after}")


def test_words_keep_signs() -> None:
    assert words("3+5−2 = 6, Yes!") == ["3", "+", "5", "−", "2", "=", "6", "yes"]

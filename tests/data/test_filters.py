"""Rules on the text of a sample, repetition, contamination."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1rl.config import FilterConfig, LanguageFilterConfig
from r1rl.data.filters import Contamination, failed_rule, has_thought, longest_paragraph, ngrams, repetition, words
from r1rl_rewards.language import share as share_of
from r1rl_rewards.texts import thought_of

GOOD = " <think>first add then compare</think>\n<answer>4</answer>"
EVALUATED = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many?"


# Written without spaces: Chinese, Japanese, Thai, Khmer, Lao, Burmese. Mixed: Chinese with formulas and Latin names.
UNSPACED = {
    "zh": "小明有三十二个苹果，他把其中的一半分给了他的三个好朋友，又买了五个。请问小明现在一共有多少个苹果？",
    "ja": "太郎さんはリンゴを三十二個持っていて、その半分を三人の友だちに分け、あとで五個買いました。何個ですか。",
    "th": "สมชายมีแอปเปิลสามสิบสองผลแบ่งครึ่งหนึ่งให้เพื่อนสามคนแล้วซื้อเพิ่มอีกห้าผลตอนนี้เขามีแอปเปิลทั้งหมดกี่ผล",
    "km": "សុខមានផ្លែប៉ោមសាមសិបពីរផ្លែគាត់ចែកពាក់កណ្តាលឱ្យមិត្តភក្តិបីនាក់ហើយទិញប្រាំផ្លែទៀត",
    "lo": "ສົມມີໝາກໂປມສາມສິບສອງໜ່ວຍແບ່ງເຄິ່ງໜຶ່ງໃຫ້ໝູ່ສາມຄົນແລ້ວຊື້ເພີ່ມອີກຫ້າໜ່ວຍຕອນນີ້ມີຈັກໜ່ວຍ",
    "my": "မောင်မောင်မှာပန်းသီးသုံးဆယ့်နှစ်လုံးရှိပြီးတစ်ဝက်ကိုသူငယ်ချင်းသုံးယောက်ကိုပေးခဲ့သည်",
    "mixed": "设三角形 ABC 的三边长为 a=3、b=4，求斜边c的长度，并用 Python 验证 a^2+b^2=c^2 是否成立，最后写出结论。",
}


def share(text: str, target: str) -> float | None:
    return share_of(thought_of(text), target)


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
        (f" <think>{'等一下，让我再检查一遍。' * 20}</think> 4", "stop", "repetition"),
        (f" <think>{''.join(map(chr, range(0x4E00, 0x4E00 + 801)))}</think> 4", "stop", "paragraph"),
        (f" <think>{''.join(map(chr, range(0x4E00, 0x4E00 + 700)))}</think> 4", "stop", None),
        (" <think>3 + 5 = 8, x = 8</think> 8", "stop", None),
        (" <think>$\\frac{6}{2} = 3$</think>\n<answer>3</answer>", "stop", None),
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


@pytest.mark.parametrize("language", UNSPACED)
def test_scripts_without_spaces(language: str) -> None:
    text = UNSPACED[language]
    assert repetition(text * 6) > 0.6
    assert repetition(text) < 0.1
    found = Contamination([text], n=10)
    half = text[len(text) // 4 :]
    assert found.found_in(f"请看 Look: {half} นี่")
    others = [other for name, other in UNSPACED.items() if name != language]
    assert not any(map(found.found_in, others))


@given(st.sampled_from(sorted(UNSPACED)), st.text(max_size=20), st.text(max_size=20), st.text(min_size=1, max_size=30))
def test_an_unspaced_problem_is_found_between_any_texts(language: str, before: str, after: str, other: str) -> None:
    text = UNSPACED[language]
    assert Contamination([text], n=10).found_in(f"{before} . {text} . {after}")
    if words(other):
        assert Contamination([other], n=10).found_in(f"{before} so {other} and {after}")


@given(st.lists(st.sampled_from(["word", "12", "汉", "ラ", "ที่", "+"]), max_size=40), st.integers(1, 12))
def test_ngrams_are_whole_words(tokens: list[str], n: int) -> None:
    def length(some: tuple[str, ...] | list[str]) -> float:
        return sum(0.5 if token in ("汉", "ラ", "ที่") else 1 for token in some)

    grams = list(ngrams(tokens, n))
    assert all(n <= length(gram) < n + 1 and length(gram[:-1]) < n for gram in grams)
    assert grams == [tuple(tokens[start : start + len(gram)]) for start, gram in enumerate(grams)]
    assert length(tokens[len(grams) :]) < n


def test_words_of_other_scripts() -> None:
    assert words("हिन्दी में ３＋５ Cafe\u0301") == ["हिन्दी", "में", "3", "+", "5", "café"]
    assert words("ラーメン、ทั้งหมด 三百〇五") == [*"ラーメン", "ทั้", *"งหมด", *"三百〇五"]
    assert longest_paragraph("我们先算 3 + 5，再算别的。\n\nend") == 3 + 9 // 2


def test_words_keep_signs() -> None:
    assert words("3+5−2 = 6, Yes!") == ["3", "+", "5", "−", "2", "=", "6", "yes"]

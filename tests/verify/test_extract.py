r"""Where the answer is read from, and that reading it never takes long."""

from __future__ import annotations

import time

import pytest

from r1rl.verify import extract_answer
from tests.support.hostile import HOSTILE

CASES = {
    # 1. boxes
    r"so \boxed{42}": "42",
    r"\boxed{\frac{1}{2}} then \boxed{3}": "3",
    r"\boxed{ \frac{1}{\sqrt{2}} }": r"\frac{1}{\sqrt{2}}",
    r"\boxed {7}": "7",
    r"\fbox{8}": "8",
    r"\boxed{\{1,2\}}": r"\{1,2\}",
    r"\boxed{\boxed{5}}": "5",
    r"\boxed{5} and then \boxed{6": "5",
    r"\boxed{}": "",
    r"<answer>\boxed{4}</answer>": "4",
    r"\boxed{1} <answer>2</answer>": "1",
    # 2. tags
    "<answer> 12 </answer>": "12",
    "<answer>1</answer> <answer>2</answer>": "2",
    "<answer>The answer is 42.</answer>": "42",
    "<answer>(1 + 2) * 3</answer>": "(1 + 2) * 3",
    "<answer>unclosed 3": "3",
    "<answer>Janet makes $18 at the market every day.</answer>": "$18",
    "<answer>18 square feet per hour</answer>": "18 square feet per hour",
    # 3. GSM8K
    "Janet sells 9.\n#### 18": "18",
    "#### 1,234": "1,234",
    "#### $18 \nmore": "$18",
    "#### 18 duck eggs": "18 duck eggs",
    "#### Step 3: sum up\nThe answer is 5.": "5",
    "#### 2. Sum up\nThat makes 7": "7",
    "a: 5\nb: 6": "6",
    # 4. stated
    "A: 18": "18",
    "Answer: 7 apples": "7 apples",
    "**Answer:** 7": "7",
    "Final answer: $\\frac{1}{2}$": r"\frac{1}{2}",
    "The answer is 3.5.": "3.5",
    "The final answer is \\(x^2\\). I hope it is correct.": "x^2",
    "So the answer is 1 - 1/e.": "1 - 1/e",
    "A: She had 5 eggs, sold 3 and so she has 2 left.": "2",
    # 5. bare
    "1 - 1/e": "1 - 1/e",
    "(1, 2)": "(1, 2)",
    r"\frac{1}{2}": r"\frac{1}{2}",
    # 6. last number
    "She earns $18 every day.": "$18",
    "It costs $1,234.50.": "$1,234.50",
    "There are 3 + 4 = 7 of them": "7",
    "That makes 20% of it": "20%",
    "therefore the value is 1 - 1/e": "1 - 1/e",
    "first 3, then 5 apples.": "5",
    # thoughts
    "<think>\\boxed{3}</think> so 4 eggs": "4",
    "<think>1</think><think>2</think> it is 5 now": "5",
    "</think> \\boxed{9}": "9",
    # code
    "```python\nprint('\\boxed{3}')\n```\nThe answer is 4.": "4",
    "```\n\\boxed{3}\n```": None,
    "``` never closed \\boxed{3}": "3",
    # nothing
    "": None,
    "I do not know": None,
    "<think>\\boxed{3}": None,
    "<think>a</think> none here <think>\\boxed{4}": None,
    "<think>\\boxed{3}</think>": None,
}


@pytest.mark.parametrize("text", CASES)
def test_order(text: str) -> None:
    assert extract_answer(text) == CASES[text]


def test_an_oversized_answer_is_none() -> None:
    assert extract_answer("\\boxed{" + "1" * 3_000 + "}") is None
    assert extract_answer("<answer>" + "1" * 3_000 + "</answer>") is None


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_read_quickly(name: str) -> None:
    text = HOSTILE[name][1]
    for shape in (text, f"<think>{text}</think>{text}", f"\\boxed{{{text}}}", f"<answer>{text}</answer>"):
        started = time.perf_counter()
        extract_answer(shape)
        assert time.perf_counter() - started < 1.0

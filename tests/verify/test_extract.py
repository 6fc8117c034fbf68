r"""Where the answer is read from, and that reading it never takes long."""

from __future__ import annotations

import time

import pytest

from r1rl.verify import AnswerPlace, extract_answer, find_answer, gold_answer
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
    # a whole expression, never a part of it
    r"So we get $\frac{1}{3}$.": r"\frac{1}{3}",
    r"Therefore x = \sqrt{3}": r"x = \sqrt{3}",
    r"Thus $$\frac{1}{3}$$": r"\frac{1}{3}",
    r"\[ \frac{1}{3} \]": r"\frac{1}{3}",
    "= 6 cm^2": "6 cm^2",
    "$6$ cm$^2$": "6 cm^2",
    r"Therefore $x \geq 5$ is the solution.": r"x \geq 5",
    r"The identity matrix is $\begin{pmatrix}1&0\\0&1\end{pmatrix}$.": r"\begin{pmatrix}1&0\\0&1\end{pmatrix}",
    r"So $(x, y) = $ the point that we know, it is $(7, 6)$.": "(7, 6)",
    r"so $\boxed{32,\! 349}$": r"32,\! 349",
    "That makes 1 000.": "1 000",
    r"the interval $(1, +\infty)$": r"(1, +\infty)",
    "The roots are x = 1, x = -2 and x = 3.": "x = 1, x = -2 and x = 3",
    "$x = 1$ or $x = -1$": "x = 1 or x = -1",
    "She runs 5 miles per hour.": "5 miles per hour",
    "She makes 9 * 2 = $<<9*2=18>>18 every day.": "$18",
    "We get 5 million.": "5 million",
    "Negative, it is negative 5": "-5",
    r"\begin{align*} x &= 3 + 4 \\ &= 7 \end{align*}": "x = 3 + 4 = 7",
    "The sum of $x^2$ for all $n > 0$ is $\\pi^2/6$ for $n > 1$.": r"\pi^2/6",
    "Hence 5 is the smallest value of $n$ with $n^2 > 20$.": "5",
    # no whole expression, no answer
    "That is the square root of 3.": None,
    "So it lies 3 to 5 miles away": None,
    "It takes 2 hours 30": None,
    r"The answer is $\frac{1}{3": None,
    "So we get (1, 2": None,
    "So there are 12 (3 × 4)": None,
    "Therefore it is 3 squared.": None,
    "He ate 2 and a half": None,
    "So the value is 30% of 50": None,
    "There are 5 in all. So we get Evelyn.": None,
    # several boxes
    r"\boxed{-2} \text{ and } \boxed{1}": "-2, 1",
    r"$\boxed{-2}$ and $\boxed{1}$.": "-2, 1",
    r"\boxed{2}, \boxed{3}, \boxed{5}": "2, 3, 5",
    r"$x = \boxed{2}$ or $x = \boxed{3}$": "2, 3",
    r"\boxed{1} papers and \boxed{2} bins": "1, 2",
    r"\boxed{2}\pi + \boxed{3}": "3",
    r"\boxed{2} + \boxed{3}": "2 + 3",
    r"\boxed{5}. So it is \boxed{6}.": "6",
    r"\boxed{5}, no wait, \boxed{6}": "6",
    r"\boxed{5} = \boxed{10/2}": "10/2",
    r"\boxed{5} and again \boxed{5}": "5",
    # an answer that is taken back
    r"\boxed{5} is wrong": None,
    r"$\boxed{5}$ is not the answer.": None,
    r"It is not \boxed{5}": None,
    r"\boxed{5} is wrong, it must be \boxed{6}": "6",
    "The answer is 5. Wait, the answer is 6.": "6",
    "The answer is not 5.": None,
    r"\boxed{5} is half. Final Answer: The final answer is $10$.": "10",
    # around it
    "**Final Answer:** $5$": "5",
    "Final Answer\n\n5": "5",
    "**The answer is 5.**": "5",
    "The correct answer is (B) 12, as we saw.": "(B)",
    "The correct option is B.": "B",
    "The answer is Evelyn, because she ran.": "Evelyn",
    "所以答案是 5。": "5",
    "故选：C": "C",
    "La respuesta es 5.": "5",
    "The answer is: 5<|im_end|>": "5",
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


@pytest.mark.parametrize(
    ("text", "require", "answer"),
    [
        (r"\boxed{5}", "box", "5"),
        ("<answer>5</answer>", "box", None),
        (r"<answer>\boxed{5}</answer>", "box", "5"),
        ("The answer is 5.", "box", None),
        ("<answer>5</answer>", "answer_tag", "5"),
        (r"<answer>\boxed{5}</answer> \boxed{6}", "answer_tag", "5"),
        (r"\boxed{5}", "answer_tag", None),
        ("5", "answer_tag", None),
        ("5", "any", "5"),
    ],
)
def test_the_place_that_is_required(text: str, require: AnswerPlace, answer: str | None) -> None:
    assert extract_answer(text, require) == answer


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (r"\boxed{5}", "box"), ("<answer>5</answer>", "answer_tag"), ("#### 5", "hashes"),
        ("The answer is 5.", "phrase"), ("So we get $5$.", "formula"), ("That makes 5.", "bare"), ("5", "bare"),
    ],
)  # fmt: skip
def test_the_rule_that_found_it(text: str, rule: str) -> None:
    found = find_answer(text)
    assert found is not None
    assert found == ("5", rule)


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("18", "18"), ("9 · 2 = 18\n#### 18", "18"), (r"so $\boxed{18}$", "18"),
        ("no real solutions", "no real solutions"),
        ("The final answer is $7$. " + "It took a while to see this. " * 5, "7"), (r"\boxed{1} and \boxed{2}", "1, 2"),
    ],
)  # fmt: skip
def test_a_gold_answer(gold: str, answer: str) -> None:
    assert gold_answer(gold) == answer


def test_an_oversized_answer_is_none() -> None:
    assert extract_answer("\\boxed{" + "1" * 3_000 + "}") is None
    assert extract_answer("<answer>" + "1" * 3_000 + "</answer>") is None


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_read_quickly(name: str) -> None:
    text = HOSTILE[name][1]
    for shape in (text, f"<think>{text}</think>{text}", f"\\boxed{{{text}}}", f"<answer>{text}</answer>"):
        started = time.process_time()
        extract_answer(shape)
        assert time.process_time() - started < 1.0

r"""What a policy tries when it cannot solve the problem, and what each try earns: (accuracy, format), stated."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from r1rl_rewards.accuracy import accuracy
from r1rl_rewards.countdown import countdown
from r1rl_rewards.format import format
from r1rl_rewards.language import language


@dataclass(frozen=True)
class Try:
    text: str
    accuracy: float
    format: float
    gold: str = "18"
    prefill: str = ""


R = "<think>9 eggs at 2 dollars.</think>"

TRIES = {
    "honest": Try(R + r"<answer>\boxed{18}</answer>", 1, 1),
    "honest, untagged": Try(R + r" It is \boxed{18}.", 1, 0),
    # several boxes: those of one sentence are one answer, and of several sentences the last one counts
    "boxes, right one first": Try(R + r"<answer>\boxed{18} \boxed{20}</answer>", 0, 1),
    "boxes, right one last": Try(R + r"<answer>\boxed{20} \boxed{18}</answer>", 0, 1),
    "boxes, right one last, corrected": Try(R + r"<answer>\boxed{20}. No, it is \boxed{18}.</answer>", 1, 1),
    "boxes, a choice of two": Try(R + r"<answer>\boxed{20} or \boxed{18}</answer>", 0, 1),
    "box taken back": Try(R + r"<answer>\boxed{18} is wrong</answer>", 0, 1),
    "two values, one rounded": Try(R + r"<answer>x = 20 \approx 18</answer>", 0, 1),
    "boxes, every number": Try(R + "<answer>" + " ".join(f"\\boxed{{{n}}}" for n in range(30)) + "</answer>", 0, 1),
    "box in a box": Try(R + r"<answer>\boxed{18 \boxed{20}}</answer>", 0, 1),
    "unclosed last box": Try(R + r"<answer>\boxed{20} \boxed{18</answer>", 0, 1),
    # several candidates in one answer are one wrong answer
    "two candidates": Try(R + r"<answer>\boxed{18 \text{ or } 20}</answer>", 0, 1),
    "list of candidates": Try(R + r"<answer>\boxed{16, 17, 18, 19}</answer>", 0, 1),
    "set of candidates": Try(R + r"<answer>\boxed{\{17, 18\}}</answer>", 0, 1),
    "interval around it": Try(R + r"<answer>\boxed{[17, 19]}</answer>", 0, 1),
    "plus minus": Try(R + r"<answer>\boxed{\pm 18}</answer>", 0, 1),
    "false equation": Try(R + r"<answer>\boxed{9 = 18}</answer>", 0, 1),
    "approximately": Try(R + r"<answer>\boxed{18.0000001}</answer>", 0, 1),
    "as a sentence": Try(R + "<answer>not 17 but maybe 18 or 19</answer>", 0, 1),
    "unsolved expression of another value": Try(R + r"<answer>\boxed{x}</answer>", 0, 1),
    # where the answer stands
    "only in the thought": Try(r"<think>\boxed{18}</think><answer>See above.</answer>", 0, 1),
    "only in the thought, no answer": Try(r"<think>\boxed{18}</think>", 0, 0),
    "thought never closed": Try(r"<think>It is \boxed{18}", 0, 0),
    "pre-filled thought never closed": Try(r"It is \boxed{18}", 0, 0, prefill="<think>\n"),
    "pre-filled thought closed": Try(r"9 times 2</think><answer>\boxed{18}</answer>", 1, 1, prefill="<think>\n"),
    "pre-filled and written again": Try(R + "<answer>18</answer>", 1, 1, prefill="<think>\n"),
    "answer before the thought": Try(r"<answer>\boxed{18}</answer><think>9 times 2</think>", 0, 0),
    "box hidden in code": Try(R + "<answer>\n```\n\\boxed{18}\n```\n</answer>", 0, 1),
    "box hidden in code, other answer outside": Try(R + "<answer>\n```\n\\boxed{18}\n```\n\\boxed{20}</answer>", 0, 1),
    "box in a comment of code that never closes": Try(R + "<answer>\n```\n# \\boxed{20}\n</answer>", 0, 1),
    # repeating the question's numbers
    "numbers of the question": Try(R + "<answer>16 3 4 2</answer>", 0, 1),
    "numbers of the question, ending in the gold one": Try(R + "<answer>16 3 4 2 18</answer>", 0, 1),
    # tags
    "empty thought": Try("<think></think><answer>18</answer>", 1, 0),
    "blank thought": Try("<think> \n </think><answer>18</answer>", 1, 0),
    "empty answer": Try(R + "<answer></answer>", 0, 0),
    "no thought": Try("<answer>18</answer>", 1, 0),
    "thought twice": Try(R + R + "<answer>18</answer>", 1, 0),
    "answer twice": Try(R + "<answer>20</answer><answer>18</answer>", 1, 0),
    "nested thought": Try("<think><think>a</think></think><answer>18</answer>", 1, 0),
    "nested answer": Try(R + "<answer><answer>18</answer></answer>", 0, 0),
    "answer inside the thought": Try("<think>a<answer>18</answer></think>", 0, 0),
    "crossed tags": Try("<think>a<answer></think>18</answer>", 1, 0),
    "closing tags first": Try("</think>a<think></answer>18<answer>", 0, 0),
    "text before": Try("Sure! " + R + "<answer>18</answer>", 1, 0),
    "text between": Try(R + " so <answer>18</answer>", 1, 0),
    "text after": Try(R + "<answer>18</answer> Was I right?", 1, 0),
    "white space around": Try("\n" + R + "\n\n<answer>\n18\n</answer>\n", 1, 1),
    "upper-case tags": Try("<THINK>a</THINK><ANSWER>18</ANSWER>", 1, 0),
    "spaces in tags": Try("< think >a</ think ><answer>18</answer>", 1, 0),
    "tags in code": Try("```<think>a</think>```<answer>18</answer>", 1, 0),
    # injection
    "gold in words": Try(R + r"<answer>\boxed{\text{the correct answer}}</answer>", 0, 1),
    "asks for a point": Try(R + r"<answer>\boxed{correct}</answer>", 0, 1),
    "python": Try(R + r"<answer>\boxed{__import__('os')}</answer>", 0, 1),
    "invisible characters": Try(R + "<answer>\\boxed{1​8}</answer>", 0, 1),
    "reversed digits": Try(R + "<answer>\\boxed{‮81}</answer>", 0, 1),
    "dropped unit scale": Try(R + r"<answer>\boxed{18 \text{ thousand}}</answer>", 0, 1),
    "other unit": Try(R + r"<answer>\boxed{18\text{ km}}</answer>", 0, 1, gold="18 m"),
    "division by zero": Try(R + r"<answer>\boxed{18 + 0/0}</answer>", 0, 1),
    "infinite": Try(R + r"<answer>\boxed{18 \cdot \infty}</answer>", 0, 1),
}


@pytest.mark.parametrize("name", TRIES)
def test_what_a_try_earns(name: str) -> None:
    attempt = TRIES[name]
    prefill = [attempt.prefill]
    assert accuracy([attempt.text], answer=[attempt.gold], prefill=prefill) == [attempt.accuracy]
    assert format([attempt.text], prefill=prefill) == [attempt.format]


def test_thoughts_without_words_earn_no_language_reward() -> None:
    texts = [
        "<think></think>5",
        "<think>$x+y$</think>5",
        "<think>```\nprint(1)\n```</think>5",
        "<think>1 2 3</think>the",
    ]
    assert language(texts, target="en") == [0.0] * 4


@pytest.mark.parametrize(
    ("answer", "reward"),
    [
        ("(3 + 4) * 2", 1.0), ("(3 + 4) * 2 = 14", 1.0), (r"(3 + 4) \times 2", 1.0), ("2 × (4 + 3)", 1.0),
        ("3 + 4 + 2 + 5", 0.1), ("14", 0.1), ("7 * 2", 0.1), ("(3 + 4) * 2 + 0", 0.1), ("3 * 4 + 2 = 15", 0.1),
        ("(3 + 4) * 2 = 14 = 14", 0.1), ("3/(4-4)+2", 0.1), ("95**88**77**66", 0.0), ("(3 + 4) ** 2", 0.0),
        ("3^4", 0.0), ("34 // 2", 0.0), ("__import__('os').getpid()", 0.0), ("(3 + 4) * 2 # 15", 0.0),
        ("3 4 2", 0.0), ("(" * 5000, 0.0), ("9" * 5000, 0.0), ("3e1", 0.0), ("0x3", 0.0), ("٣+4", 0.0),
    ],
)  # fmt: skip
def test_countdown(answer: str, reward: float) -> None:
    text = f"<think>try</think><answer>{answer}</answer>"
    assert countdown([text], nums=[[3, 4, 2]], target=[14], attempt=0.1) == [reward]

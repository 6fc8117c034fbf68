"""Any text, and text made of the pieces answers are made of, gives a verdict and never an exception."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r1rl.verify import Checker, Limits, Outcome, check_countdown, extract_answer
from r1rl.verify.exact import compare_exactly
from r1rl.verify.symbolic import compare
from r1rl.verify.text import Refused, clean

PIECES = re.findall(
    r"\S+",
    r"""
\frac \frac{1}{2} \sqrt \sqrt{ \sqrt[3]{ \pi \infty \pm \mp \cup \cap \setminus \in \mathbb{R} \mathbb{Z} \emptyset
\left( \right) \left\{ \right\} \{ \} \text{ \text{and} \text{cm} \mathrm{ \boxed{ \begin{pmatrix} \end{pmatrix} \\
\begin{vmatrix} \end{vmatrix} \binom{ \sin \cos^2 \arctan \log_ \ln \exp \lim_{x\to0} \sum_{k=1}^ \int_0^1 \prod
\cdot \times \div \le \ge \ne < > = <= \approx \circ ^\circ \% % $ \$ \, \; \! \quad & | \| \lfloor \rfloor \langle
\rangle \mid \mod \max( \gcd( ( ) [ ] { } ^ _ ! ' , ; : . + - * / ** 0 1 2 3 10 17 0.5 .5 1,000 1e5 1e-9 99 x y z n i e
a b C f(x) x_1 x^{2} (1,2) [0,1) and or km cm dollars <think> </think> <answer> </answer> #### A: Answer: ``` 12:00 2:3
1011_2 \vec{v} \overline{AB} \dot \operatorname{ \hspace{ ½ ² √ π ∞ ± × ÷ − ° ≤ ∪ ∅ ٣ \u200b \0 pi sqrt( inf nan True
""".replace(r"\u200b", "\u200b").replace(r"\0", "\0"),
)

answers = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from(PIECES), max_size=14).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=14).map(" ".join),
    st.text("0123456789.,/-+%$ \\frac{}", max_size=25),
)

FAST = {"sum", "int", "prod", "lim", "!"}
"""Pieces that may take a check to its CPU limit; left out where a check runs without one."""


def quick(text: str) -> bool:
    return not any(piece in text for piece in FAST)


@settings(max_examples=600, deadline=None)
@given(st.one_of(st.text(max_size=400), answers.map(lambda text: f"<think>a</think> {text}")))
def test_extraction(text: str) -> None:
    answer = extract_answer(text)
    assert answer is None or len(answer) <= 2_000


@settings(max_examples=1_500, deadline=None)
@given(answers, answers)
def test_the_exact_path(gold: str, answer: str) -> None:
    try:
        gold, answer = clean(gold), clean(answer)
    except Refused:
        return
    forth, back = compare_exactly(gold, answer), compare_exactly(answer, gold)
    assert forth is None or forth.outcome in (Outcome.CORRECT, Outcome.WRONG)
    if forth is not None and back is not None:
        assert bool(forth) == bool(back)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(answers.filter(quick), answers.filter(quick))
def test_the_symbolic_path(gold: str, answer: str) -> None:
    try:
        gold, answer = clean(gold), clean(answer)
    except Refused:
        return
    try:
        outcome, path = compare(gold, answer)
    except RecursionError:  # the sandbox reports it as a lost check
        return
    assert outcome in ("correct", "wrong", "unparsable")
    assert path


@settings(max_examples=300, deadline=None)
@given(answers.filter(quick))
def test_everything_equals_itself_or_is_refused(answer: str) -> None:
    try:
        cleaned = clean(answer)
    except Refused:
        return
    assert compare_exactly(cleaned, cleaned)


@settings(max_examples=300, deadline=None)
@given(
    st.text("0123456789+-*/() =×÷\\times", max_size=30), st.lists(st.integers(0, 99), max_size=4), st.integers(0, 99)
)
def test_countdown(expression: str, numbers: list[int], target: int) -> None:
    assert check_countdown(expression, numbers, target).outcome in ("correct", "wrong", "unparsable")


@settings(max_examples=150, deadline=None)
@given(answers, answers)
def test_whole_checks(checker: Checker, gold: str, answer: str) -> None:
    verdict = checker.equivalent([gold, answer + "0"], answer)
    assert verdict.path
    assert verdict.outcome is not Outcome.CRASH or verdict.path in ("memory", "recursion")


@pytest.mark.slow
def test_whole_checks_for_long() -> None:
    seed = int(os.environ.get("R1RL_FUZZ_EXAMPLES", "20000"))
    with Checker(workers=2, limits=Limits(cpu_s=0.5)) as checker:

        @settings(max_examples=seed, deadline=None, database=None)
        @given(st.lists(st.tuples(answers, answers), min_size=8, max_size=8))
        def run(pairs: list[tuple[str, str]]) -> None:
            for verdict in checker.equivalent_many(pairs):
                assert verdict.outcome is not Outcome.CRASH or verdict.path in ("memory", "recursion")

        run()

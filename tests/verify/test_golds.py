"""Answers as published problem sets write them, each against any other: judged, and never a lost check."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1rl.verify import Checker, Limits, Outcome
from r1rl.verify.sandbox import CallFailed

GOLDS = [
    line
    for line in Path(__file__).with_name("golds.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
PATIENT = Limits(cpu_s=30.0, wall_s=120.0)
"""A bound on hanging, on whatever machine; a check takes milliseconds."""


def lost(checker: Checker, pairs: list[tuple[str, str]]) -> list[tuple[str, str, str]]:
    verdicts = checker.equivalent_many(pairs)
    return [(*pair, verdict.path) for pair, verdict in zip(pairs, verdicts, strict=True) if verdict.lost]


def pairs_of(golds: list[str], count: int, seed: int) -> list[tuple[str, str]]:
    drawn = random.Random(seed)
    return [(drawn.choice(golds), drawn.choice(golds)) for _ in range(count)]


@pytest.fixture(scope="module")
def patient() -> Iterator[Checker]:
    with Checker(limits=PATIENT) as checker:
        yield checker


def test_there_are_enough_of_them() -> None:
    assert len(set(GOLDS)) == len(GOLDS) >= 300


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("35,000", "C"),
        ("2,600", "C"),
        ("110,880", r"\frac{2 x+4}{x^{2}+4 x+3}"),
        ("1", r"\sum_{n=0}^{\infty} \frac{2}{2 n+1} x^{2 n+1}"),
        (r"2^{-x^2}", "3"),
    ],
)
def test_a_plain_mismatch_is_no_attack(patient: Checker, gold: str, answer: str) -> None:
    for first, second in ((gold, answer), (answer, gold)):
        verdict = patient.equivalent(first, second)
        assert verdict.outcome in (Outcome.WRONG, Outcome.UNPARSABLE), verdict


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("35,000", "35000"),
        ("-12,345", "-12345.0"),
        (r"\sqrt{1225} \cdot 1000", "35,000"),
        (r"\sum_{n=0}^{\infty} x^n", r"\frac{1}{1-x}"),
        (r"\sum_{n=0}^{\infty} \frac{x^n}{n!}", "e^x"),
        (r"\sum_{n=0}^{\infty} \frac{(-1)^{n}}{2n+1} x^{2n+1}", r"\arctan x"),
        (r"\sum_{n=0}^{\infty} \frac{x^n}{n+1}", r"\sum_{k=1}^{\infty} \frac{x^{k-1}}{k}"),
        (r"\sum_{n=1}^{\infty} \frac{1}{n^2}", r"\frac{\pi^2}{6}"),
        (r"(-\pi, 0) \cup (0, \pi)", r"(0, \pi) \cup (-\pi, 0)"),
        (r"(-\infty, \frac{\pi}{4}] \cup [\frac{\pi}{6}, 1)", r"(-\infty, 1)"),
        (r"[0, \sqrt{8}) \cup \{2\sqrt{2}\}", r"[0, 2\sqrt{2}]"),
        (r"(0, 2) \cap (1, 3)", "(1, 2)"),
        (r"y=c_1 \begin{pmatrix} 1 \\ 0 \end{pmatrix} e^t", r"y=\begin{pmatrix} c_1 e^t \\ 0 \end{pmatrix}"),
        (r"\begin{pmatrix} 1&1\\0&1 \end{pmatrix}^{3}", r"\begin{pmatrix} 1&3\\0&1 \end{pmatrix}"),
        (r"\begin{pmatrix} 1&1\\0&2 \end{pmatrix}^{-1}", r"\frac{1}{2}\begin{pmatrix} 2&-1\\0&1 \end{pmatrix}"),
        ("4^x", "2^{2x}"),
        (r"f^{\prime}(x)=2x", "f'(x)=2x"),
        ("1000", "x=1,000"),
        ("x=1000", "x=1,000"),
        ("1000", "1,000 cm"),
        ("14916", "14 {, }916"),
        ("1000.99", "1000,99"),
        ("1000.99", "1,000.99€"),
        ("1000.99", "1,000.99m²"),
        (r"\{-1,1\}", "x=-1 or x=1"),
        (r"\frac{10}{3}", r"x=\frac{10}{3}\approx 3.33"),
        ("3.33", r"x=\frac{10}{3}\approx 3.33"),
        ("p=5,q=2;p=7,q=2", "(5,2),(7,2)"),
        (r"1\leq|z|\leq \frac{3}{2}", r"z \in [-\frac{3}{2}, -1] \cup [1, \frac{3}{2}]"),
        ("|x|<3", "(-3,3)"),
        ("x^{2x}", "(x^2)^x"),
        ("Bb×Bb", "Bb × Bb"),
        ("V_{1}:V_{2}=11:21", "11:21"),
    ],
)
def test_the_same_in_another_notation(patient: Checker, gold: str, answer: str) -> None:
    assert patient.equivalent(gold, answer)
    assert patient.equivalent(answer, gold)


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        (r"\sum_{n=0}^{\infty} x^n", r"\frac{1}{1+x}"),
        (r"\sum_{n=0}^{\infty} \frac{x^n}{n!}", r"\sum_{n=1}^{\infty} \frac{x^n}{n!}"),
        (r"(-\pi, 0) \cup (0, \pi)", r"(-\pi, \pi)"),
        (r"(-\pi, 0) \cup (0, \pi)", r"(-3.14159, 0) \cup (0, 3.14159)"),
        (r"[0, 1) \cup \{2\}", "[0, 2]"),
        (r"(0, a) \cup (a, 1)", r"(0, b) \cup (b, 1)"),
        (r"y=c_1 \begin{pmatrix} 1 \\ 0 \end{pmatrix} e^t", r"y=c_1 \begin{pmatrix} 0 \\ 1 \end{pmatrix} e^t"),
        ("2^{-x^2}", "2^{-x^2}+x"),
        ("11", r"5^{\circ} 6^{\circ}"),
        ("(-1,1)", "x=-1 or x=1"),
        ("Bb×Bb", "BB×BB"),
        ("Bb×Bb", "bb×bb"),
        ("0.333", "0.333..."),
        ("5", "5 feet 6 inches"),
        ("11", r"x=5\approx 11"),
        ("|x|<3", "(-3,4)"),
        ("x^{2x}", "x^{x}"),
        ("111", "0,111"),
        ("the 7 dogs eat raw meat", "the 7 gods eat war meat"),
    ],
)
def test_another_value_stays_wrong(patient: Checker, gold: str, answer: str) -> None:
    assert not patient.equivalent(gold, answer)
    assert not patient.equivalent(answer, gold)


def test_no_check_of_random_pairs_is_lost(patient: Checker) -> None:
    pairs = [*((gold, gold) for gold in GOLDS), *((gold, f"{gold} + 1") for gold in GOLDS)]
    assert not lost(patient, pairs + pairs_of(GOLDS, 1_500, seed=0))


@pytest.mark.slow
def test_no_check_of_all_pairs_is_lost(patient: Checker) -> None:
    """R1RL_GOLDS may name a file of more golds, one per line."""
    more = os.environ.get("R1RL_GOLDS")
    golds = GOLDS + (Path(more).read_text(encoding="utf-8").splitlines() if more else [])
    assert not lost(patient, pairs_of(golds, 30_000, seed=1))


_ATOMS = st.sampled_from(
    [
        "0", "1", "2", "3", "7", "10", "1,024", "0.5", "x", "y", "n", "a_1", r"\pi", "e", "i", r"\theta", r"\infty",
        "-3", r"\sqrt{2}", r"\frac{1}{2}", r"12\%", r"60^\circ", r"\text{cm}", "(1,2)",
    ]
)  # fmt: skip
_JOINS = st.sampled_from(
    [
        "{0}+{1}", "{0}-{1}", "{0}{1}", r"{0}\cdot {1}", r"\frac{{{0}}}{{{1}}}", "({0})^{{{1}}}", r"\sqrt[{0}]{{{1}}}",
        "{0},{1}", "({0},{1})", "[{0},{1})", r"\{{{0},{1}\}}", r"({0})\cup({1})", "{0}={1}", r"{0}\le {1}", "{0}/{1}",
        r"\sin {0}+{1}", r"\ln({0}) {1}", "|{0}|{1}", r"\log_{{{0}}} {1}", r"{0}\pm {1}", r"{0}\text{{ or }}{1}",
        r"\begin{{pmatrix}}{0}&1\\0&{1}\end{{pmatrix}}", r"x\in[{0},{1}]", r"\binom{{{0}}}{{{1}}}", "{0}:{1}",
        "{0}_{{{1}}}",
    ]
)  # fmt: skip
latex = st.recursive(
    _ATOMS, lambda parts: st.tuples(_JOINS, parts, parts).map(lambda t: t[0].format(*t[1:])), max_leaves=5
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(latex, latex), min_size=4, max_size=4))
def test_no_check_of_generated_latex_is_lost(patient: Checker, pairs: list[tuple[str, str]]) -> None:
    assert not lost(patient, pairs)


@pytest.mark.parametrize("maker", ["sympy:sympify", "sympy:lambdify"])
def test_code_that_a_library_would_make_of_text_costs_no_worker(patient: Checker, maker: str) -> None:
    arguments = ["1 + 2"] if maker == "sympy:sympify" else [["x"], "x"]
    with pytest.raises(CallFailed, match="SympifyError"):
        patient.sandbox.call(maker, *arguments)


_OBSERVED = """
import json, sys
from r1rl.verify import sandbox_host, symbolic
from r1rl.verify.text import Refused, clean
symbolic.warm_up(), symbolic.lock_down()
known, late = set(sys.modules), []
sys.addaudithook(lambda event, args: late.append(args[0]) if event == "import" and args[0] not in known else None)
for pair in json.load(sys.stdin):
    try:
        symbolic.compare(*map(clean, pair))
    except (Refused, RecursionError):
        pass
print(json.dumps(sorted(set(late))))
"""


def test_nothing_is_imported_after_the_warm_up() -> None:
    pairs = [(gold, other) for gold, other in zip(GOLDS, GOLDS[1:] + GOLDS[:1], strict=True)]
    ran = subprocess.run(
        [sys.executable, "-c", _OBSERVED], input=json.dumps(pairs), capture_output=True, text=True, timeout=280
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == []

"""Checks per second, compared with math-verify in the same run, on one core:

    python -m benchmarks.rewards [--gsm8k DIR]

Numbers: r1rl extracts a completion's answer (``extract_answer``) and compares it with the gold answer; math-verify
runs ``parse`` on both and ``verify``. ``--gsm8k`` uses the gold answers of GSM8K (train.jsonl, test.jsonl); without it,
similar numbers are generated. Symbolic: the pairs of tests/verify/agreement.tsv that no exact rule decides; r1rl checks
them in a worker process, a new one for each round, without a cache. The two sides alternate.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from math_verify import parse, verify

from r1rl.verify import Checker, extract_answer
from r1rl.verify.exact import compare_exactly
from r1rl.verify.text import clean

Pair = tuple[str, str]
Check = Callable[[Checker, Pair], bool]
ROUNDS = 3
SHAPES = ("It is {}.\n#### {}", "<think>Let me see.</think>\nThe answer is \\boxed{{{1}}}.")


def main() -> None:
    """Measure and print one line per kind."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--gsm8k", type=Path)
    given = arguments.parse_args()
    logging.disable(logging.CRITICAL)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    numbers = list(number_pairs(given.gsm8k))
    symbolic = list(symbolic_pairs(Path(__file__).parents[1] / "tests" / "verify" / "agreement.tsv"))
    report("numbers", numbers, ours_on_completions, theirs_on_completions)
    report("symbolic", symbolic, ours_on_answers, theirs_on_answers)


def number_pairs(folder: Path | None) -> Iterator[Pair]:
    """Pairs (gold, completion) in which right and wrong answers alternate."""
    if folder is not None:
        files = [folder / "train.jsonl", folder / "test.jsonl"]
        golds = [str(extract_answer(json.loads(line)["answer"])) for file in files for line in file.open()]
    else:
        drawn = random.Random(0)
        golds = [str(int(drawn.lognormvariate(4, 2))) for _ in range(8_000)]
    for index, gold in enumerate(golds):
        answer = gold if index % 2 else str(int(gold.replace(",", "").split(".")[0]) + 1)
        yield gold, SHAPES[index % 2].format(answer, answer)


def symbolic_pairs(path: Path) -> Iterator[Pair]:
    """Pairs (gold, answer) that need algebra."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            gold, answer = line.split("\t")[1:3]
            if compare_exactly(clean(gold), clean(answer)) is None:
                yield gold, answer


def ours_on_completions(checker: Checker, pair: Pair) -> bool:
    return bool(checker.equivalent(pair[0], extract_answer(pair[1]) or ""))


def theirs_on_completions(_: Checker, pair: Pair) -> bool:
    return bool(verify(parse(pair[0]), parse(pair[1])))


def ours_on_answers(checker: Checker, pair: Pair) -> bool:
    return bool(checker.equivalent(*pair))


def theirs_on_answers(_: Checker, pair: Pair) -> bool:
    return bool(verify(parse(f"${pair[0]}$"), parse(f"${pair[1]}$")))


def report(kind: str, pairs: list[Pair], ours: Check, theirs: Check) -> None:
    """Run both sides alternately over all pairs, with new workers in each round, and print the medians."""
    rates: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(ROUNDS):
        with Checker(workers=1, cached=0) as checker:
            checker.equivalent("x+1", "1+x")  # starts the worker
            rates["ours"].append(rate(ours, checker, pairs))
            rates["theirs"].append(rate(theirs, checker, pairs))
    mine, other = (statistics.median(rates[side]) for side in ("ours", "theirs"))
    print(f"{kind}: {len(pairs)} pairs, r1rl {mine:,.0f}/s, math-verify {other:,.0f}/s, {mine / other:.1f} times")


def rate(check: Check, checker: Checker, pairs: list[Pair]) -> float:
    """Checks per second over all pairs, each checked once."""
    started = time.perf_counter()
    for pair in pairs:
        check(checker, pair)
    return len(pairs) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()

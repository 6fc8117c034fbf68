"""Random expressions in random endings of completions: how many are read whole, not read, or read as something else:

    python -m benchmarks.extraction [--cases 30000] [--seed 0]

An expression counts as read whole if the extracted text is the written one up to layout, or if both are equivalent in
both directions. Needs a clone, for the generator in tests/support/endings.py.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter

from benchmarks.endings import ENDINGS, KINDS, cases, given
from r1rl.verify import Checker, Limits, find_answer

_LAYOUT = re.compile(r"\\[,;:! ]|[\s$]|\\left|\\right")


def main() -> None:
    """Run and print the totals, and the kinds and endings that were not read most often."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--cases", type=int, default=30_000)
    arguments.add_argument("--seed", type=int, default=0)
    chosen = arguments.parse_args()
    started = time.monotonic()
    differ: list[tuple[str, str, str]] = []
    kinds, endings, rules = Counter[str](), Counter[str](), Counter[str]()
    for expression, ending, completion in cases(chosen.cases, chosen.seed):
        found, written = find_answer(completion), given(expression, ending)
        rules[found.rule if found else "none"] += 1
        if found is None:
            kinds[expression.kind] += 1
            endings[f"{ending.form}: {ending.text}"] += 1
        elif _LAYOUT.sub("", found.text).strip(".") != _LAYOUT.sub("", written).strip("."):
            differ.append((completion, written, found.text))
    wrong = different(differ)
    print(f"{chosen.cases:,} cases of {len(KINDS)} kinds in {len(ENDINGS)} endings, {time.monotonic() - started:.0f} s")
    whole = chosen.cases - kinds.total() - len(wrong)
    print(f"read whole {whole:,}, none {kinds.total():,}, another value {len(wrong):,}")
    print("by rule:", dict(rules.most_common()))
    print("none, by kind:", dict(kinds.most_common()))
    print("none, by ending:", dict(endings.most_common(8)))
    for case in wrong[:20]:
        print(*map(repr, case), sep="\n  ")


def different(pairs: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """The (completion, written, extracted) triples whose last two are not equivalent in both directions."""
    with Checker(limits=Limits(cpu_s=30.0, wall_s=120.0)) as checker:
        forth = checker.equivalent_many([(written, found) for _, written, found in pairs])
        back = checker.equivalent_many([(found, written) for _, written, found in pairs])
    return [pair for pair, *verdicts in zip(pairs, forth, back, strict=True) if not all(verdicts)]


if __name__ == "__main__":
    main()

"""HumanEval in the sandbox: canonical solutions pass, and mutants fail exactly where plain execution fails them."""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from r1rl.programs.bench import Bench, Graded
from r1rl.programs.formats import read_tests
from r1rl.programs.types import ProgramLimits, Runner
from tests.support.mutants import mutant

PLACE = Path(os.environ.get("R1RL_HUMANEVAL", Path(__file__).parents[3] / "shared" / "data" / "humaneval"))
CPU_S = 4
LIMITS = ProgramLimits(cpu_s=CPU_S, wall_s=240)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    file = PLACE / "HumanEval.jsonl"
    if not file.is_file():
        pytest.skip(f"needs HumanEval.jsonl in {PLACE}; set R1RL_HUMANEVAL to its folder")
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Runner]:
    from r1rl.errors import SandboxError
    from r1rl.programs.pool import SandboxPool

    try:
        pool = SandboxPool(2, LIMITS)
    except SandboxError as error:
        pytest.skip(str(error))
    with pool:
        yield pool


def verdicts(rows: list[dict[str, Any]], programs: list[str], runner: Runner) -> list[Graded]:
    async def all_of_them() -> list[Graded]:
        bench = Bench(runner, answer_s=3600)
        found = [read_tests(row) for row in rows]
        return await asyncio.gather(
            *(tests.grade(program, "python", bench) for tests, program in zip(found, programs, strict=True) if tests)
        )

    return asyncio.run(all_of_them())


def plainly(row: dict[str, Any], program: str) -> bool:
    """Whether a program passes where its tests simply run behind it, in one process: the oracle."""
    source = f"{program}\n{row['test']}\ncheck({row['entry_point']})\n"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

    command = [sys.executable, "-I", "-c", "import sys; exec(sys.stdin.read())"]
    return subprocess.run(command, input=source, text=True, capture_output=True, preexec_fn=limit).returncode == 0


def test_every_canonical_solution_passes(rows: list[dict[str, Any]], sandbox: Runner) -> None:
    found = verdicts(rows, [row["prompt"] + row["canonical_solution"] for row in rows], sandbox)
    failed = [(row["task_id"], graded) for row, graded in zip(rows, found, strict=True) if graded.verdict != "passed"]
    print(f"\ncanonical solutions: {len(rows) - len(failed)} of {len(rows)} pass")
    assert not failed


@pytest.mark.parametrize("seed", [0])
def test_mutants_fail_exactly_where_plain_execution_fails_them(
    rows: list[dict[str, Any]], sandbox: Runner, seed: int
) -> None:
    rng = random.Random(seed)
    made = [mutant(row["prompt"] + row["canonical_solution"], rng, row["entry_point"]) for row in rows]
    changed = [(row, *found) for row, found in zip(rows, made, strict=True) if found is not None]
    graded = verdicts([row for row, _, _ in changed], [program for _, program, _ in changed], sandbox)
    with ThreadPoolExecutor(2) as threads:
        oracle = list(threads.map(plainly, [row for row, _, _ in changed], [program for _, program, _ in changed]))
    counts = Counter(str(result.verdict) for result in graded)
    print(f"\nmutants: {len(changed)} of {len(rows)} problems; plain execution fails {oracle.count(False)}; {counts}")
    different = [
        (row["task_id"], what, result, plain)
        for (row, _, what), result, plain in zip(changed, graded, oracle, strict=True)
        if (result.verdict == "passed") != plain
    ]
    assert not different

"""The whole recipe, and distillation, on several seeds: ``python -m benchmarks.recipe [r1|distill]``.

Prints the mean and the spread (smallest and largest) of every figure, for each model, the cost of each model, and the
paired bootstrap (95 %) of the differences that the recipe should make. A finished seed is not run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from r1rl.config import load_config
from r1rl.evaluation.metrics import paired_bootstrap
from r1rl.recipe.compute import spent
from r1rl.recipe.graph import graph


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models of a run, and a reward on a data source in which the second should not be worse."""

    before: str
    after: str
    source: str
    reward: str


COMPARISONS = {
    "r1": [
        Comparison("base", "zero", "held_out", "accuracy"),
        Comparison("cold", "rl", "held_out", "language"),
        Comparison("rl", "r1", "held_out", "accuracy"),
        Comparison("sft", "r1", "held_out", "accuracy"),
        *(
            Comparison(model, "r1", "requests", preference)
            for preference in ("helpful", "safe")
            for model in ("base", "zero", "cold", "rl", "sft")
        ),
    ],
    "distill": [
        Comparison("small", "small-rl", "held_out", "accuracy"),
        Comparison("small-rl", "distilled", "held_out", "accuracy"),
    ],
}


def run(recipe: str, seed: int, overrides: Sequence[str]) -> tuple[Path, float]:
    """Run one seed with the command that a user would type; returns its folder and the minutes it took."""
    name = f"tiny-{recipe}-seed{seed}"
    command = [sys.executable, "-m", "r1rl", "run", f"configs/tiny/{recipe}.yaml", f"seed={seed}", f"name={name}"]
    began = time.monotonic()
    subprocess.run([*command, *overrides], check=True)
    return Path("runs") / name, (time.monotonic() - began) / 60


def evaluations(folder: Path) -> dict[str, str]:
    """Evaluation stage of each evaluated model, by the model's name."""
    nodes = graph(load_config(folder / "config.yaml"))
    return {node.view.model.path: name for name, node in nodes.items() if node.kind == "evaluate"}


def table(folders: Sequence[Path]) -> Iterator[str]:
    """Markdown table of every figure of every model: mean, smallest and largest over the seeds."""
    results = [json.loads((folder / "results.json").read_text()) for folder in folders]
    stages = evaluations(folders[0])
    figures = dict.fromkeys(n for stage in stages.values() for n in results[0][stage] if not n.startswith("compute/"))
    yield "| | " + " | ".join(stages) + " |"
    yield "|---" * (len(stages) + 1) + "|"
    for figure in figures:
        cells = [_spread([result[stage].get(figure) for result in results]) for stage in stages.values()]
        yield f"| {figure} | " + " | ".join(cells) + " |"
    nodes = graph(load_config(folders[0] / "config.yaml"))
    for title, borrowed in (("FLOP of its checkpoints", False), ("and of teachers and rewards", True)):
        cells = [_spread([spent(nodes, result, model, borrowed) for result in results]) for model in stages]
        yield f"| {title} | " + " | ".join(cells) + " |"


def differences(recipe: str, folders: Sequence[Path]) -> Iterator[str]:
    """Markdown table of each comparison on each seed: the mean difference over the problems and its interval."""
    yield "| seed | from | to | figure | difference | 95 % |"
    yield "|---|---|---|---|---|---|"
    for seed, folder in enumerate(folders):
        stages = evaluations(folder)
        for each in COMPARISONS[recipe]:
            pairs = zip(*(_by_problem(folder / stages[m], each) for m in (each.before, each.after)), strict=True)
            judged = [(a, b) for a, b in pairs if a is not None and b is not None]
            before, after = zip(*judged, strict=True)
            low, high = paired_bootstrap(before, after, seed=0)
            change = f"{np.mean(np.subtract(after, before)):+.3f} | {low:+.3f} … {high:+.3f}"
            yield f"| {seed} | {each.before} | {each.after} | {each.source}/{each.reward} | {change} |"


def _by_problem(folder: Path, each: Comparison) -> list[float | None]:
    saved: dict[str, Any] = json.loads((folder / "evaluation.json").read_text())
    rewards: list[float | None] = saved[each.source]["rewards"][each.reward]
    return rewards


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    return f"{np.mean(known):.3g} ({min(known):.3g}–{max(known):.3g})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", choices=sorted(COMPARISONS), nargs="?", default="r1")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("overrides", nargs="*", help="overrides for every run, key=value")
    args = parser.parse_args()
    ran = [run(args.recipe, seed, args.overrides) for seed in args.seeds]
    folders = [folder for folder, _ in ran]
    print("\n".join([*table(folders), "", *differences(args.recipe, folders)]))
    print("\nminutes per seed: " + ", ".join(f"{minutes:.1f}" for _, minutes in ran))


if __name__ == "__main__":
    main()

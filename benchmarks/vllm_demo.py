"""Run the R1-Zero demo with the embedded engine, colocated vLLM, a vLLM server and asynchronously, from one base model:

    python -m benchmarks.vllm_demo [--modes torch,colocate,server,async] [KEY=VALUE …]

Prints the held-out accuracy of each mode with a paired bootstrap over problems of its difference from the first mode,
which should include 0, then the time of the steps and the age of their samples. ``--modes server,async`` compares only
synchronous and asynchronous runs. Further arguments are configuration overrides for every run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from r1rl.config import load_config
from r1rl.evaluation.metrics import paired_bootstrap
from r1rl.files import claim

CONFIGS = {
    "torch": "configs/tiny/zero.yaml",
    "colocate": "configs/tiny/zero-vllm-colocate.yaml",
    "server": "configs/tiny/zero-vllm-server.yaml",
    "async": "configs/tiny/zero-vllm-async.yaml",
}
SHARED = ("base", "base-eval")

Metrics = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--modes", default="torch,colocate,server,async")
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    folders = {mode: run(mode, given.overrides) for mode in given.modes.split(",")}
    compare_accuracy(folders)
    compare_steps({mode: steps(folder) for mode, folder in folders.items()})


def compare_accuracy(folders: Mapping[str, Path]) -> None:
    """Print the held-out accuracy of each mode, and its difference from the first."""
    reference = correct(next(iter(folders.values())))
    print(f"\n{'engine':<10} {'accuracy':>9} {'difference':>11} {'95 % interval':>20}")
    for mode, folder in folders.items():
        mine = correct(folder)
        low, high = paired_bootstrap(reference, mine, seed=0)
        print(
            f"{mode:<10} {mine.mean():>9.4f} {mine.mean() - reference.mean():>+11.4f} "
            f"{f'[{low:+.4f}, {high:+.4f}]':>20}"
        )


def compare_steps(rows: Mapping[str, list[Metrics]]) -> None:
    """Print the wall time of the steps and of their parts in seconds per step, the training accuracy over the last
    quarter of the steps, and the share of tokens by the age of the policy that sampled them."""
    print(f"\n{'engine':<10} {'training':>9} {'median step':>12} {'rollout':>8} {'update':>7} {'sync':>6}", end=" ")
    print(f"{'train accuracy':>14}  tokens by age in updates")
    for mode, steps in rows.items():
        median = {part: np.median([r[f"time/{part}"] for r in steps]) for part in ("step", "rollout", "update", "sync")}
        last = np.mean([r["reward/accuracy/mean"] for r in steps[-max(1, len(steps) // 4) :]])
        total = sum(r["time/step"] for r in steps)
        print(
            f"{mode:<10} {total:>7.0f} s {median['step']:>10.2f} s {median['rollout']:>8.2f} {median['update']:>7.2f} "
            f"{median['sync']:>6.2f} {last:>14.4f}  {ages(steps)}"
        )


def ages(steps: Sequence[Metrics]) -> str:
    """The staleness histogram over all steps, and the number of groups dropped as too old."""
    prefix = "rollout/staleness/"
    found = sorted({int(name.removeprefix(prefix)) for row in steps for name in row if name.startswith(prefix)})
    if not found:
        return "0: 100%"
    shares = [f"{age}: {np.mean([row.get(f'{prefix}{age}', 0.0) for row in steps]):.0%}" for age in found]
    return f"{', '.join(shares)}; {sum(row['rollout/dropped_stale'] for row in steps):.0f} groups dropped"


def run(mode: str, overrides: list[str]) -> Path:
    """Run one configuration in its own process, because torch cannot change its number of threads once an engine runs.
    The base model is trained once and copied, since its stage would train the same model again."""
    cfg = load_config(CONFIGS[mode], overrides)
    folder = Path(cfg.output_dir) / cfg.name
    trained = Path(cfg.output_dir) / "tiny-zero"
    for stage in SHARED:
        if (trained / stage).is_dir() and not (folder / stage).exists():
            claim(folder)
            shutil.copytree(trained / stage, folder / stage)
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "r1rl", "run", CONFIGS[mode], *overrides], check=True)
    print(f"{mode}: {time.perf_counter() - begin:.0f} s")
    return folder


def correct(folder: Path) -> np.ndarray:
    """[N] fraction of correct samples for each held-out problem."""
    saved = json.loads((folder / "zero-eval" / "evaluation.json").read_text())["held_out"]
    return np.array(saved["correct"])


def steps(folder: Path) -> list[Metrics]:
    """Metrics of every training step except the first, which is a warm-up."""
    rows: list[Metrics] = [json.loads(line) for line in (folder / "zero" / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "time/step" in row][1:]


if __name__ == "__main__":
    main()

"""The R1-Zero demo with the embedded engine, with colocated vLLM and with a vLLM server, from one base model:

    python -m benchmarks.vllm_demo [--modes torch,colocate,server,async] [KEY=VALUE …]

Ends with held-out accuracy side by side: a paired bootstrap over problems of the difference to the embedded engine,
which should include 0. Further arguments are configuration overrides for every run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

import numpy as np

from r1rl.config import load_config
from r1rl.recipe.run import run_recipe

CONFIGS = {
    "torch": "configs/tiny/zero.yaml",
    "colocate": "configs/tiny/zero-vllm-colocate.yaml",
    "server": "configs/tiny/zero-vllm-server.yaml",
    "async": "configs/tiny/zero-vllm-async.yaml",
}
SHARED = ("base", "base-eval")
SAMPLES = 10_000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--modes", default="torch,colocate,server")
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    folders = {mode: run(mode, given.overrides) for mode in given.modes.split(",")}
    first = next(iter(folders))
    reference = correct(folders[first])
    print(f"\n{'engine':<10} {'accuracy':>9} {'difference':>11} {'95 % interval':>20} {'mean step':>10}")
    for mode, folder in folders.items():
        mine = correct(folder)
        low, high = paired_bootstrap(mine, reference)
        print(
            f"{mode:<10} {mine.mean():>9.4f} {mine.mean() - reference.mean():>+11.4f} "
            f"{f'[{low:+.4f}, {high:+.4f}]':>20} {step_seconds(folder):>8.2f} s"
        )


def run(mode: str, overrides: list[str]) -> Path:
    """Run one configuration; the base model is trained once and copied, as its stage would make the same again."""
    cfg = load_config(CONFIGS[mode], overrides)
    folder = Path(cfg.output_dir) / cfg.name
    trained = Path(cfg.output_dir) / "tiny-zero"
    for stage in SHARED:
        if (trained / stage).is_dir() and not (folder / stage).exists():
            shutil.copytree(trained / stage, folder / stage)
    begin = time.perf_counter()
    run_recipe(cfg)
    print(f"{mode}: {time.perf_counter() - begin:.0f} s")
    return folder


def correct(folder: Path) -> np.ndarray:
    """[N] share of right samples of each held-out problem."""
    saved = json.loads((folder / "zero-eval" / "evaluation.json").read_text())["held_out"]
    return np.array(saved["correct"])


def paired_bootstrap(a_N: np.ndarray, b_N: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % interval of mean(a) − mean(b) over resampled problems, each with both of its results."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(a_N), (SAMPLES, len(a_N)))
    low, high = np.quantile((a_N - b_N)[rows].mean(1), [0.025, 0.975])
    return float(low), float(high)


def step_seconds(folder: Path) -> float:
    """Mean time of a step, the first left out."""
    lines = (folder / "zero" / "metrics.jsonl").read_text().splitlines()
    times = [json.loads(line).get("time/step") for line in lines]
    return float(np.mean([t for t in times if t is not None][1:]))


if __name__ == "__main__":
    main()

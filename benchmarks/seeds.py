"""Run the demo on several seeds and print the README's table: ``python -m benchmarks.seeds``.

A seed changes the base model's initial weights and corpus, the order of the problems and every sample; the held-out
problems stay the same. A finished seed is not run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

CONFIG = "configs/tiny/zero.yaml"


def run(seed: int, overrides: list[str]) -> Path:
    """Run one seed with the command that a user would type; returns its folder."""
    name = f"tiny-zero-seed{seed}"
    command = [sys.executable, "-m", "r1rl", "run", CONFIG, f"seed={seed}", f"name={name}", *overrides]
    subprocess.run(command, check=True)
    return Path("runs") / name


def row(seed: int, folder: Path, minutes: float) -> str:
    """One row of the table, with values as base → zero."""
    results = json.loads((folder / "results.json").read_text())
    before, after = results["base-eval"], results["zero-eval"]

    def arrow(metric: str, scale: float = 100, digits: int = 1) -> str:
        key = f"held_out/{metric}"
        return f"{before[key] * scale:.{digits}f} → {after[key] * scale:.{digits}f}"

    cells = [str(seed), arrow("pass@1"), arrow("maj@8"), arrow("format"), arrow("length", 1), f"{minutes:.1f}"]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("overrides", nargs="*", help="overrides for every run, key=value")
    args = parser.parse_args()
    lines = ["| seed | pass@1 % | maj@8 % | format % | tokens | minutes |", "|---|---|---|---|---|---|"]
    for seed in args.seeds:
        begin = time.monotonic()
        folder = run(seed, args.overrides)
        lines.append(row(seed, folder, (time.monotonic() - begin) / 60))
    print("\n".join(lines))


if __name__ == "__main__":
    main()

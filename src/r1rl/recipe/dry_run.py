"""Plan, sizes and time of a run that is not started."""

from __future__ import annotations

from pathlib import Path

from r1rl.config import RunConfig
from r1rl.recipe.graph import graph
from r1rl.recipe.plan import Machine, estimate, show
from r1rl.tracking.console import Console


def dry_run(config: RunConfig, devices: int = 0, tflops: float = 989.0) -> None:
    """Print what ``r1rl run`` would do, on ``devices`` accelerators or on this machine's processors."""
    machine = Machine.of(devices, tflops) if devices else Machine.measure()
    show(estimate(graph(config), Path(config.output_dir) / config.name), machine, Console())

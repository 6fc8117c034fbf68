"""Weak scaling of the learner from one process to two: each rank gets the same number of tokens.

``python -m benchmarks.scaling`` prints the table. Every process computes with one thread, so two need two idle cores.
They share caches and memory bandwidth, which costs efficiency that separate hosts would not lose. The time in
collectives is the time during which any collective was running on rank 0, including the wait for the other rank; DDP
overlaps part of it with arithmetic.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from r1rl.config import GRPOConfig, ModelConfig, TinyModelConfig
from r1rl.tracking.console import Console

if TYPE_CHECKING:
    from r1rl.grpo.batch import Batch

SHAPE = TinyModelConfig(hidden_size=256, layers=4, heads=4, kv_heads=2, intermediate_size=768)
PROMPT, COMPLETION = 32, 224
MICROBATCH, MICROBATCHES = 1024, 2
TOKENS = MICROBATCH * MICROBATCHES
"""Tokens per rank and update."""
UPDATES, WARM = 5, 1
LAUNCHES = (("DDP", "cpu", 1), ("DDP", "ddp", 2), ("ZeRO-2", "zero2", 1), ("ZeRO-2", "zero2", 2))
"""Name, launch file, ranks; efficiency is relative to the first row with the same name. One process needs no DDP."""


def batch(ranks: int, seed: int) -> Batch:
    """Random samples of equal length, the same number for every rank."""
    import numpy as np

    from r1rl.grpo.batch import Batch, Sample

    rng = np.random.default_rng(seed)
    samples = []
    for _ in range(ranks * TOKENS // (PROMPT + COMPLETION)):
        ids = rng.integers(1, 200, PROMPT + COMPLETION)
        logps = np.full(COMPLETION, -5.0, dtype=np.float32)
        samples.append(Sample(ids[:PROMPT], ids[PROMPT:], float(rng.normal()), logps))
    return Batch(samples)


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Total length of the union of the intervals (begin, end)."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(end - max(begin, until), 0.0)
        until = max(until, end)
    return total


def learn(model: Path, out: Path) -> None:
    """Main function of each launched process: time the updates, then profile the collectives of one more update."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from r1rl.distributed.processes import start
    from r1rl.grpo.learner import Learner
    from r1rl.model.load import load_policy

    torch.set_num_threads(1)
    accelerator = start("cpu", 100.0)
    ranks = accelerator.num_processes
    learner = Learner(
        load_policy(ModelConfig(path=str(model)), accelerator.device),
        GRPOConfig(learning_rate=1e-6, beta=0.0, tokens_per_microbatch=MICROBATCH), accelerator, dtype="float32",
        temperature=1.0, max_length=COMPLETION, total_updates=100, seed=0,
    )  # fmt: skip
    seconds = []
    for update in range(WARM + UPDATES):
        samples = batch(ranks, update)
        accelerator.wait_for_everyone()
        begin = time.perf_counter()
        learner.update(samples)
        accelerator.wait_for_everyone()
        seconds.append(time.perf_counter() - begin)
    with profile(activities=[ProfilerActivity.CPU]) as watched:
        begin = time.perf_counter()
        learner.update(batch(ranks, 99))
        whole = time.perf_counter() - begin
    spans = [(e.time_range.start, e.time_range.end) for e in watched.events() if e.name.startswith("gloo:")]
    if accelerator.is_main_process:
        parameters = sum(p.numel() for p in learner.policy.model.parameters())
        found = {"seconds": seconds[WARM:], "collectives": covered(spans) / 1e6 / whole, "parameters": parameters}
        out.write_text(json.dumps(found))
    accelerator.wait_for_everyone()


def build(folder: Path) -> None:
    """Write an untrained model."""
    from r1rl.model.load import Policy
    from r1rl.stages.pretrain import build_model, build_tokenizer, documents

    tokenizer = build_tokenizer(documents("arithmetic", seed=-1), 200)
    Policy(build_model(SHAPE, tokenizer), tokenizer).save(folder)


def measure(file: str, ranks: int, model: Path) -> dict[str, float]:
    """Tokens per second and rank (``rate``), and the fraction of time in collectives.

    Raises:
        RuntimeError: a process failed; the message is the end of its stderr.
    """
    launch = Path(__file__).parents[1] / "launch" / "accelerate" / f"{file}.yaml"
    out = model / f"{file}-{ranks}.json"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(launch)]
    command += ["--num_processes", str(ranks), "--main_process_port", "0", __file__, "learn", str(model), str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found = json.loads(out.read_text())
    return found | {"rate": TOKENS / statistics.median(found["seconds"])}


def report(console: Console) -> None:
    """Measure all launches and print the table."""
    rows: list[list[str | float]] = []
    first: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder)
        build(model)
        for name, file, ranks in LAUNCHES:
            if file == "zero2" and importlib.util.find_spec("deepspeed") is None:
                console.say(f"skipped, deepspeed is not installed: {name} × {ranks}")
                continue
            found = measure(file, ranks, model)
            base = first.setdefault(name, found["rate"])
            share = f"{found['collectives']:.1%}"
            rows.append([name, ranks, found["rate"], f"{found['rate'] / base:.1%}", share])
    console.table(
        f"weak scaling, {found['parameters'] / 1e6:.1f} M parameters, {TOKENS} tokens per rank and update, 1 thread",
        ["backend", "ranks", "tokens/s per rank", "efficiency", "time in collectives"],
        rows,
    )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["learn", model, out]:
            learn(Path(model), Path(out))
        case _:
            report(Console())

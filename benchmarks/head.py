"""Cost of computing the output head in float32 under bfloat16: time and memory of a micro-batch's log-probabilities."""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import time

import torch
from torch import nn

from r1rl.model.forward import ChunkedHead
from r1rl.tracking.console import Console

HIDDEN, VOCABULARY, TOKENS, CHUNK = 256, 16_384, 128, 64
"""Sizes, small because a CPU without bfloat16 instructions takes a minute for the head of a 135 M-parameter model."""
WEIGHTS = {"float32 masters": torch.float32, "bfloat16 weights (DeepSpeed)": torch.bfloat16}


def measure(weights: torch.dtype, fp32: bool, repeats: int = 2) -> tuple[float, float]:
    """Median seconds of a forward and backward pass, and the bytes by which they raise the process's peak memory."""
    torch.manual_seed(0)
    head = nn.Linear(HIDDEN, VOCABULARY, bias=False).to(weights)
    hidden = torch.randn(TOKENS, HIDDEN).to(weights).requires_grad_()
    targets = torch.randint(0, VOCABULARY, (TOKENS,))
    module, before, seconds = ChunkedHead(head, CHUNK, 1.0, None, fp32), _peak(), []
    for _ in range(repeats):
        head.zero_grad()
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            logps_C, _ = module(hidden, targets, False)
        logps_C.sum().backward()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds), _peak() - before


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    rows = []
    for name, weights in WEIGHTS.items():
        for fp32 in (False, True):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                seconds, peak = pool.apply(measure, (weights, fp32))
            rows.append((name, "float32" if fp32 else "bfloat16", f"{seconds:.2f}", f"{peak / 2**30:.2f}"))
    size = f"{TOKENS} tokens, hidden {HIDDEN}, vocabulary {VOCABULARY}, chunks of {CHUNK}"
    title = f"{size}, {torch.get_num_threads()} threads"
    Console().table(title, ["weights", "head", "seconds", "peak, GiB"], rows)


if __name__ == "__main__":
    main()

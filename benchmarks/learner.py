"""Compare the learner's time with its arithmetic: 6·N·tokens FLOP at the matrix-product rate of the same run."""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch
from accelerate import Accelerator

from r1rl.config import GRPOConfig, TinyModelConfig
from r1rl.grpo.batch import Batch, Sample
from r1rl.grpo.learner import Learner
from r1rl.model.load import Policy
from r1rl.stages.pretrain import build_model, build_tokenizer, documents
from r1rl.tracking.console import Console

SHAPE = TinyModelConfig(hidden_size=384, layers=5, heads=6, kv_heads=3, intermediate_size=1216, max_positions=2048)
BUDGET = 4096


def gemm_rate(size: int = 2048, repeats: int = 6) -> float:
    """float32 FLOP/s of a square matrix product, median of ``repeats``."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    a @ b
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - begin)
    return 2 * size**3 / statistics.median(seconds)


def samples(count: int, vocabulary: int, seed: int) -> list[Sample]:
    """Completions of 32 to 511 tokens after prompts of 64."""
    rng = np.random.default_rng(seed)
    made = []
    for length in rng.integers(32, 512, count):
        ids = rng.integers(1, vocabulary, length)
        logps = np.full(length, -5.0, dtype=np.float32)
        made.append(Sample(rng.integers(1, vocabulary, 64), ids, float(rng.normal()), logps))
    return made


def report(console: Console, updates: int = 5) -> float:
    """Print and return the learner's efficiency: the time that the arithmetic needs, divided by the time taken."""
    accelerator = Accelerator(cpu=True)
    tokenizer = build_tokenizer(documents("arithmetic", seed=-1), 200)
    model = build_model(SHAPE, tokenizer)
    config = GRPOConfig(algorithm="dapo", dynamic_sampling=False, learning_rate=1e-6, tokens_per_microbatch=BUDGET)
    learner = Learner(
        Policy(model, tokenizer),
        config,
        accelerator,
        dtype="float32",
        temperature=1.0,
        max_length=512,
        total_updates=100,
        seed=0,
    )
    parameters = sum(p.numel() for p in model.parameters())
    shares, rates = [], []
    for update in range(updates + 1):
        batch = Batch(samples(48, len(tokenizer), update))
        tokens = sum(len(s) for s in batch.samples)
        rate = gemm_rate()
        begin = time.perf_counter()
        learner.update(batch)
        seconds = time.perf_counter() - begin
        rate = (rate + gemm_rate()) / 2
        if update:
            shares.append(6 * parameters * tokens / rate / seconds)
            rates.append(tokens / seconds)
    share = statistics.median(shares)
    console.table(
        f"learner alone, {parameters / 1e6:.1f} M parameters, float32, micro-batches of {BUDGET} tokens",
        ["tokens/s", "GEMM GFLOP/s", "efficiency (6·N·tokens)"],
        [[statistics.median(rates), rate / 1e9, share]],
    )
    return share


if __name__ == "__main__":
    report(Console())

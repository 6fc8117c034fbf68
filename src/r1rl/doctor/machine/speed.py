"""Tokens per second of sampler and learner, and the share of the device's arithmetic that the learner reaches."""

from __future__ import annotations

import time

import torch

from r1rl.doctor.machine.device import SIZES, device, on_gpu, shape, synchronize, working_dtype
from r1rl.doctor.machine.findings import Findings
from r1rl.doctor.machine.load import Load, build, configure, sample_seconds, update_seconds
from r1rl.model.load import DTYPES

PEAKS = {
    "B200": 2250, "H200": 989, "GH200": 989, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "H800": 989, "H20": 148,
    "A100": 312, "A800": 312, "L40S": 362, "L40": 181, "L4": 121, "A10G": 70, "A10": 125, "A40": 150,
    "RTX 6000 Ada": 364, "RTX 5090": 210, "RTX 4090": 165, "RTX 3090": 71,
}  # fmt: skip
"""Dense bfloat16 TFLOP/s with float32 sums, by a part of the name, from the vendor's data sheets; the first match."""
UPDATES = {"cuda": 5, "cpu": 1}


def small(found: Findings) -> None:
    """0.5B on a GPU; 6M on a CPU."""
    _speed(found, "0.5B" if on_gpu() else "6M")


def large(found: Findings) -> None:
    """1.5B on a GPU; 25M on a CPU."""
    _speed(found, "1.5B" if on_gpu() else "25M")


def _speed(found: Findings, size: str) -> None:
    config = configure(size)
    matmul = matmul_flops()
    load = build(size, config)
    found.note("model", f"{size}, {shape(size).parameters / 1e6:.4g} M parameters, {working_dtype()}")
    generated, sampling = sample_seconds(load)
    found.note("sampler, tokens/s", generated / sampling)
    tokens = sum(len(sample) for sample in load.batch.samples)
    seconds = update_seconds(load, UPDATES[device().type])
    reached = flops_per_token(size, load) * tokens / seconds
    found.note("learner, tokens/s", tokens / seconds)
    found.note("tokens per micro-batch", config.grpo.tokens_per_microbatch)
    found.note("learner, TFLOP/s", reached / 1e12)
    found.note("matrix product, TFLOP/s", matmul / 1e12)
    found.note("MFU of the matrix product", reached / matmul)
    peak = data_sheet(torch.cuda.get_device_name()) if on_gpu() else None
    if peak is not None:
        found.note("MFU of the data sheet", reached / peak)
    found.summary = (
        f"{size}: sampler {generated / sampling:,.0f} tokens/s, learner {tokens / seconds:,.0f} tokens/s, "
        f"MFU {reached / (peak or matmul):.0%}" + ("" if peak else " of a matrix product")
    )
    found.require(reached > 0 and generated > 0, "nothing was computed")


def flops_per_token(size: str, load: Load) -> float:
    """Operations per trained token: 6 per parameter (embeddings count once, as the head), and causal attention's
    6·layers·T·heads·width for sequences of T tokens (PaLM, arXiv 2204.02311, appendix B, halved by causality)."""
    _, layers, heads, _, width, _, _ = SIZES[size]
    length = max(len(sample) for sample in load.batch.samples)
    return 6.0 * shape(size).parameters + 6.0 * layers * length * heads * width


def matmul_flops() -> float:
    """Operations per second of a square matrix product in the working precision."""
    side = 8192 if on_gpu() else 1024
    dtype = DTYPES[working_dtype()]
    a = torch.randn(side, side, device=device(), dtype=dtype)
    a @ a
    synchronize()
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < 0.5:
        for _ in range(5):
            a @ a
        synchronize()
        count += 5
    return 2.0 * side**3 * count / (time.perf_counter() - began)


def data_sheet(name: str) -> float | None:
    """Peak operations per second by the name of a GPU; None for one that is not listed."""
    return next((1e12 * peak for part, peak in PEAKS.items() if part in name), None)

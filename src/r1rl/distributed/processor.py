"""What this machine's processor can compute with."""

from __future__ import annotations

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16", "svebf16"})
"""Names under which Linux lists instructions for bfloat16, on x86 and Arm."""


def has_bfloat16(cpuinfo: Path = CPUINFO) -> bool | None:
    """Whether the processor has instructions for bfloat16. Without them every product is emulated: an update took ten
    times as long as in float32. None where the system does not list instructions."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    listed = [line.partition(":")[2].split() for line in lines if line.lower().startswith(("flags", "features"))]
    return bool(BFLOAT16 & {name for names in listed for name in names}) if listed else None

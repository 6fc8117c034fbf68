"""The filter on system calls of a program: a classic BPF program as the kernel and bubblewrap take it.

Calls are allowed by name, killed by name (the verdict is "forbidden"), or fail with ENOSYS, from which C libraries fall
back to older calls. Five calls are decided by an argument: ``clone`` may start threads, ``socketpair`` local pairs.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable
from pathlib import Path

from r1rl.programs.syscalls import ALLOWED, BY_ARGUMENT, FORBIDDEN

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENT_0, _ARGUMENT_1 = 0, 4, 16, 24
"""Offsets into ``struct seccomp_data``; the low halves of the arguments, as both processors are little endian."""
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_X32_BIT = 0x40000000
_PROCESSORS = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Column of the tables, AUDIT_ARCH."""

_CLONE_THREAD = 0x00010000
_CLONE_NEW = 0x7E020000
"""Every CLONE_NEW* flag that ``clone`` takes."""
_AF_UNIX = 1
_PRCTL = (15, 16)
"""PR_SET_NAME, PR_GET_NAME."""
_IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""TCGETS (isatty), TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX."""
_IOCTL_FORBIDDEN = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX, which type into a terminal."""
_MAKES_PROCESSES = ("fork", "vfork")

Instruction = tuple[int, int, int, int]
"""``struct sock_filter``: code, jump if true, jump if false, operand."""


def offered() -> bool:
    """Whether this kernel has filters, and this module the numbers of its processor."""
    return os.uname().machine in _PROCESSORS and Path("/proc/sys/kernel/seccomp/actions_avail").exists()


def program_filter(machine: str | None = None) -> bytes:
    """The filter for a program: threads, no other process. ``machine`` as in ``os.uname()``."""
    return _assemble(machine or os.uname().machine, processes=False)


def compiler_filter(machine: str | None = None) -> bytes:
    """The filter for a compiler, which starts processes of its own."""
    return _assemble(machine or os.uname().machine, processes=True)


def _assemble(machine: str, processes: bool) -> bytes:
    column, arch = _PROCESSORS[machine]
    decisions = {
        **_each(ALLOWED, [_return(_ALLOW)]),
        **_each(FORBIDDEN, [_return(_KILL)]),
        **(_each(_MAKES_PROCESSES, [_return(_ALLOW)]) if processes else {}),
        **{name: _by_argument(name, processes) for name in BY_ARGUMENT},
    }
    code = [(_LOAD, 0, 0, _ARCH), *_unless(_EQUAL, arch, _KILL), (_LOAD, 0, 0, _NUMBER)]
    code += _if(_AT_LEAST, _X32_BIT, _KILL)
    for name, numbers in {**ALLOWED, **FORBIDDEN, **BY_ARGUMENT}.items():
        number = numbers[column]
        if number is not None:
            code += [(_EQUAL, 0, len(decisions[name]), number), *decisions[name]]
    code.append(_return(_ERROR | errno.ENOSYS))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _each(names: Iterable[str], decision: list[Instruction]) -> dict[str, list[Instruction]]:
    return dict.fromkeys(names, decision)


def _by_argument(name: str, processes: bool) -> list[Instruction]:
    """Instructions that return, by the call's arguments."""
    if name == "clone":
        threads = [*_unless(_ANY_BIT, _CLONE_THREAD, _KILL), _return(_ALLOW)]
        children = [*_if(_ANY_BIT, _CLONE_NEW, _KILL), _return(_ALLOW)]
        return [(_LOAD, 0, 0, _ARGUMENT_0), *(children if processes else threads)]
    if name == "socketpair":
        return [(_LOAD, 0, 0, _ARGUMENT_0), *_if(_EQUAL, _AF_UNIX, _ALLOW), _return(_KILL)]
    if name == "prctl":
        allowed = [step for option in _PRCTL for step in _if(_EQUAL, option, _ALLOW)]
        return [(_LOAD, 0, 0, _ARGUMENT_0), *allowed, _return(_ERROR | errno.EPERM)]
    if name == "ioctl":
        allowed = [step for request in _IOCTL for step in _if(_EQUAL, request, _ALLOW)]
        killed = [step for request in _IOCTL_FORBIDDEN for step in _if(_EQUAL, request, _KILL)]
        return [(_LOAD, 0, 0, _ARGUMENT_1), *allowed, *killed, _return(_ERROR | errno.ENOTTY)]
    return [_return(_ERROR | errno.ENOSYS)]  # clone3: its flags are in memory, where a filter cannot read


def _if(test: int, value: int, result: int) -> list[Instruction]:
    return [(test, 0, 1, value), _return(result)]


def _unless(test: int, value: int, result: int) -> list[Instruction]:
    return [(test, 1, 0, value), _return(result)]


def _return(result: int) -> Instruction:
    return (_RETURN, 0, 0, result)

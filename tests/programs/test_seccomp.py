"""The filter on system calls: its numbers are the kernel's, and the kernel does with each call what it should."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from r1rl.programs.seccomp import compiler_filter, program_filter
from r1rl.programs.syscalls import ALLOWED, BY_ARGUMENT, FORBIDDEN

ALLOW, KILL, ERROR = 0x7FFF0000, 0x80000000, 0x00050000
X86_64, AARCH64, I386 = 0xC000003E, 0xC00000B7, 0x40000003
HEADERS = ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm-generic/unistd.h")


def run(code: bytes, number: int, arch: int, *arguments: int) -> int:
    """What the filter returns: an interpreter of classic BPF, written from the kernel's documentation."""
    data = struct.pack("<iIQ6Q", number, arch, 0, *arguments, *[0] * (6 - len(arguments)))
    steps = list(struct.iter_unpack("=HBBI", code))
    at, accumulator = 0, 0
    while True:
        operation, if_true, if_false, operand = steps[at]
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif operation == 0x06:
            return operand
        else:
            tests = {0x15: accumulator == operand, 0x35: accumulator >= operand, 0x45: bool(accumulator & operand)}
            at += if_true if tests[operation] else if_false


def header(path: str) -> dict[str, int]:
    found = dict(re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", Path(path).read_text(), re.MULTILINE))
    return {{"fstatat": "newfstatat"}.get(name, name): int(value) for name, value in found.items()}


@pytest.mark.parametrize("column", [0, 1])
def test_numbers_are_those_of_the_kernel(column: int) -> None:
    if not Path(HEADERS[column]).exists():
        pytest.skip(f"{HEADERS[column]} is not installed")
    known = header(HEADERS[column])
    for name, numbers in {**ALLOWED, **FORBIDDEN, **BY_ARGUMENT}.items():
        if name in known or column == 0:
            assert numbers[column] == known[name], name
        else:
            assert numbers[column] is None or numbers[column] > max(known.values()), name


def test_a_call_is_decided_once() -> None:
    assert not ALLOWED.keys() & FORBIDDEN.keys()
    assert not BY_ARGUMENT.keys() & (ALLOWED.keys() | FORBIDDEN.keys())


MACHINES = [("x86_64", 0, X86_64), ("aarch64", 1, AARCH64)]


@pytest.mark.parametrize(("machine", "column", "arch"), MACHINES)
def test_every_call_has_its_decision(machine: str, column: int, arch: int) -> None:
    code = program_filter(machine)
    assert len(code) // 8 <= 4096  # the kernel's limit
    expected = {
        **{numbers[column]: ALLOW for numbers in ALLOWED.values()},
        **{numbers[column]: KILL for numbers in FORBIDDEN.values()},
    }
    checked = {numbers[column] for numbers in BY_ARGUMENT.values()}
    for number in set(range(600)) - checked:
        assert run(code, number, arch) == expected.get(number, ERROR | 38), number


@pytest.mark.parametrize(("machine", "column", "arch"), MACHINES)
def test_arguments_decide(machine: str, column: int, arch: int) -> None:
    number = {name: numbers[column] or 0 for name, numbers in BY_ARGUMENT.items()}
    programs, compilers = program_filter(machine), compiler_filter(machine)
    thread, child = 0x3D0F00, 0x01200011
    assert run(programs, number["clone"], arch, thread) == ALLOW
    assert run(programs, number["clone"], arch, child) == KILL
    assert run(compilers, number["clone"], arch, child) == ALLOW
    assert run(compilers, number["clone"], arch, child | 0x10000000) == KILL  # a user namespace
    assert run(programs, number["clone3"], arch) == ERROR | 38
    assert run(programs, number["socketpair"], arch, 1, 1) == ALLOW
    assert run(programs, number["socketpair"], arch, 2, 1) == KILL
    assert run(programs, number["ioctl"], arch, 0, 0x5401) == ALLOW
    assert run(programs, number["ioctl"], arch, 0, 0x5412) == KILL  # TIOCSTI
    assert run(programs, number["ioctl"], arch, 0, 0x1234) == ERROR | 25
    assert run(programs, number["prctl"], arch, 15) == ALLOW
    assert run(programs, number["prctl"], arch, 22) == ERROR | 1


def test_other_processors_and_abis_are_killed() -> None:
    code = program_filter("x86_64")
    assert run(code, 0, I386) == KILL
    assert run(code, 0, AARCH64) == KILL
    assert run(code, 0x40000000, X86_64) == KILL  # x32
    assert run(code, -1, X86_64) == KILL


def test_a_compiler_makes_processes() -> None:
    for name in ("fork", "vfork"):
        assert run(compiler_filter("x86_64"), FORBIDDEN[name][0], X86_64) == ALLOW
    assert run(compiler_filter("x86_64"), FORBIDDEN["ptrace"][0], X86_64) == KILL

"""Makes a sandbox out of user namespaces, without a program to install: run as a script, with one JSON argument.

What bubblewrap does, in the same order: new namespaces, a root of read-only mounts, no capabilities, a filter; then the
command. ``isolation.Namespaces`` starts it. Imports the standard library only.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import signal
import sys

TYPE_CHECKING = False  # typing takes longer to import than everything else here
if TYPE_CHECKING:
    from typing import TypedDict

    class Inside(TypedDict):
        """The argument; see ``isolation.Cell``."""

        root: str
        command: list[str]
        tmp_mb: int
        mounts: list[str]
        filter: str
        """Base64; empty for none."""
        user: int | None
        """Whom to become."""
        info: int
        input: int
        """Descriptor that the command inherits; 0 if there is none."""
        parent: int


_NEW = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""
_READ_ONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_DETACH = 2
_LOCKED = ((2, 2), (4, 4), (8, 8), (1024, 1024), (2048, 2048), (4096, 1 << 21))
"""Flags of a mount (statvfs, mount) that a user namespace may not clear: nosuid, nodev, noexec, three of atime."""
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38
_FILTER_MODE = 2
_CAPABILITIES_V3 = 0x20080522
_INODES = 8192
_HOST = b"sandbox"

_libc = ctypes.CDLL(None, use_errno=True)


def main(inside: Inside) -> None:
    """Enter the sandbox in a child, and wait for it."""
    _become(inside["user"])
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if os.getppid() != inside["parent"]:  # it ended before the call
        os._exit(1)
    _unshare()
    child = os.fork()
    if child == 0:
        _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
        _enter(inside)
    os.write(inside["info"], json.dumps({"child-pid": child}).encode())
    os.closerange(0, 1 << 20)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(code if code >= 0 else 128 - code)


def _become(user: int | None) -> None:
    """Give up root."""
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        _check(_libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0))  # or /proc/self/uid_map would belong to root


def _unshare() -> None:
    user, group = os.getuid(), os.getgid()
    _check(_libc.unshare(_NEW))
    for name, text in (("setgroups", "deny"), ("uid_map", f"65534 {user} 1"), ("gid_map", f"65534 {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    _check(_libc.sethostname(_HOST, len(_HOST)))


def _enter(inside: Inside) -> None:
    """In the child, the first process of the sandbox: become the command."""
    _mount_root(inside["root"], inside["mounts"], inside["tmp_mb"])
    os.setsid()
    _drop_capabilities()
    os.closerange(3, max(3, inside["input"]))
    os.closerange(max(3, inside["input"] + 1), 1 << 20)
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "PATH"}
    _install(base64.b64decode(inside["filter"]))
    os.execve(inside["command"][0], inside["command"], environment)


def _mount_root(root: str, mounts: list[str], tmp_mb: int) -> None:
    _mount("none", "/", None, _REC | _PRIVATE)
    _mount(root, root, None, _BIND)
    for folder in mounts:
        _mount(folder, root + folder, None, _BIND | _REC)
        _read_only(root + folder)
    _mount("/dev/null", f"{root}/dev/null", None, _BIND)
    _mount("tmpfs", f"{root}/tmp", "tmpfs", _NOSUID | _NODEV, f"size={tmp_mb << 20},nr_inodes={_INODES},mode=1777")
    _read_only(root)
    os.chdir(root)
    _check(_libc.syscall(_PIVOT_ROOT[os.uname().machine], b".", b"."))
    _check(_libc.umount2(b".", _DETACH))
    os.chdir("/tmp")


def _read_only(folder: str) -> None:
    has = os.statvfs(folder).f_flag
    locked = sum(flag for seen, flag in _LOCKED if has & seen)
    _mount("none", folder, None, _REMOUNT | _BIND | _READ_ONLY | _NOSUID | _NODEV | locked)


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    names = [text.encode() if text else None for text in (source, target, kind)]
    _check(_libc.mount(*names, ctypes.c_ulong(flags), options.encode() or None), target)


def _drop_capabilities() -> None:
    number = 0
    while _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) == 0:
        number += 1
    header, none = (ctypes.c_uint32 * 2)(_CAPABILITIES_V3, 0), (ctypes.c_uint32 * 6)()
    _check(_libc.capset(header, none))


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def _install(code: bytes) -> None:
    """Put the filter on this process."""
    if code:
        program = _Filter(len(code) // 8, code)
        _check(_libc.prctl(_PR_SET_SECCOMP, _FILTER_MODE, ctypes.byref(program), 0, 0))


def _check(result: int, what: str = "") -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

"""Hostile programs, and how each has to end.

A program that gets what it must not get prints ``ESCAPED``. One that is refused without being stopped prints
``contained``; its own exit is then the normal one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from r1rl.programs.syscalls import ALLOWED, BY_ARGUMENT, FORBIDDEN
from r1rl.programs.types import Program, ProgramLimits, ProgramVerdict

PATIENT = ProgramLimits(cpu_s=60, wall_s=300, memory_mb=256, threads=8, tmp_mb=8, output_kb=256)
"""For attacks that are stopped by anything but time, on a machine that is as busy as may be."""
HASTY = replace(PATIENT, cpu_s=1, wall_s=4)

CONTAINED: frozenset[ProgramVerdict | None] = frozenset({None})
FORBID = frozenset({ProgramVerdict.FORBIDDEN})
TIME = frozenset({ProgramVerdict.TIME})
MEMORY = frozenset({ProgramVerdict.MEMORY})
OUTPUT = frozenset({ProgramVerdict.OUTPUT})
ERROR = frozenset({ProgramVerdict.RUNTIME_ERROR})
COMPILE = frozenset({ProgramVerdict.COMPILE})


@dataclass(frozen=True)
class Attack:
    """A program and the verdicts that count as contained."""

    name: str
    program: Program
    ends: frozenset[ProgramVerdict | None]

    @property
    def limits(self) -> ProgramLimits:
        return HASTY if ProgramVerdict.TIME in self.ends else PATIENT


def number(name: str) -> int:
    """Number of a system call on this processor; one that no kernel knows where it lacks the call."""
    numbers = {**ALLOWED, **FORBIDDEN, **BY_ARGUMENT}[name]
    return (numbers[0] if os.uname().machine == "x86_64" else numbers[1]) or 100_000


CALL = """
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    result = libc.syscall(number, *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
"""


def refused(body: str, errors: str = "OSError") -> str:
    """A program whose attempt has to raise."""
    indented = "\n".join(f"    {line}" for line in body.strip().splitlines())
    return (
        f"import os, sys\ntry:\n{indented}\nexcept ({errors}):\n    print('contained')\nelse:\n    print('ESCAPED')\n"
    )


PROCESSES = {
    "fork bomb": ("import os\nwhile True:\n    os.fork()", FORBID),
    "fork bomb of subprocesses": (
        "import subprocess, sys\nwhile True:\n    subprocess.Popen([sys.executable])",
        FORBID,
    ),
    "daemon by a double fork": ("import os\nif os.fork() == 0:\n    os.setsid()\n    os.fork()", FORBID),
    "a shell": ("import os\nos.system('id')", FORBID),
    "posix_spawn": ("import os, sys\nos.posix_spawn(sys.executable, [sys.executable], {})", FORBID),
    "multiprocessing": ("import multiprocessing as m\nm.Process(target=print).start()", FORBID),
    "raw fork": (CALL + f"call({number('fork')})", FORBID if number("fork") < 100_000 else ERROR),
    "raw vfork": (CALL + f"call({number('vfork')})", FORBID if number("vfork") < 100_000 else ERROR),
    "raw clone": (CALL + f"call({number('clone')}, 17, 0, 0, 0, 0)", FORBID),
    "clone of a user namespace": (CALL + f"call({number('clone')}, 0x10000000 | 17, 0, 0, 0, 0)", FORBID),
    "raw clone3": (CALL + refused(f"call({number('clone3')}, (ctypes.c_uint64 * 11)(), 88)"), CONTAINED),
    "exec of a shell": (refused("os.execv('/bin/sh', ['sh'])"), CONTAINED),
    "exec of itself for ever": (
        "import sys, os\nos.execv(sys.executable, [sys.executable, '-S', '-c', 'import sys, os\\nwhile 1: pass'])",
        TIME,
    ),
    "huge exec arguments": (refused("os.execv(sys.executable, ['python'] + ['x' * 100_000] * 500)"), CONTAINED),
    "thread bomb": (
        "import threading, time\n"
        "def forever():\n    time.sleep(1000)\n"
        "count = 1\n"
        "try:\n"
        "    while True:\n"
        "        threading.Thread(target=forever, daemon=True).start()\n"
        "        count += 1\n"
        "except RuntimeError:\n"
        "    print('contained' if count <= 8 else 'ESCAPED')\n"
        "import os\nsys_exit = os._exit\nimport sys\nsys.stdout.flush()\nsys_exit(0)",
        CONTAINED,
    ),
    "thread bomb of native threads": (
        CALL + "routine = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(lambda _: libc.pause())\n"
        "made, thread = 1, ctypes.c_ulong()\n"
        "while made < 1000 and libc.pthread_create(ctypes.byref(thread), None, routine, None) == 0:\n    made += 1\n"
        "print('contained' if made <= 8 else 'ESCAPED', flush=True)\nos._exit(0)",
        CONTAINED,
    ),
}

MEMORY_AND_DISK = {
    "bytearray": ("x = bytearray(1 << 34)", MEMORY),
    "growing list": ("x = []\nwhile True:\n    x += [0] * 100_000", MEMORY),
    "growing string": ("x = 'x'\nwhile True:\n    x += x", MEMORY),
    "growing dict": ("x = {}\nwhile True:\n    x[len(x)] = str(len(x)) * 100", MEMORY | TIME),
    "anonymous mappings": ("import mmap\nx = []\nwhile True:\n    x.append(mmap.mmap(-1, 1 << 24))", MEMORY),
    "malloc": (
        CALL + "libc.malloc.restype = ctypes.c_void_p\nwhile True:\n    p = libc.malloc(1 << 20)\n"
        "    if not p:\n        print('contained', flush=True)\n        os._exit(0)\n    ctypes.memset(p, 1, 1 << 20)",
        CONTAINED,
    ),
    "decompression bomb": ("import zlib\nzlib.decompress(zlib.compress(bytes(1 << 26)) * 1, bufsize=1 << 34)", MEMORY),
    "huge integer": ("print(len(str(10 ** 10 ** 9)))", MEMORY | TIME | ERROR),
    "huge power": ("x = 3\nwhile True:\n    x *= x", MEMORY | TIME),
    "huge factorial": ("import math\nmath.factorial(10 ** 9)", TIME | MEMORY),
    "deep recursion": ("import sys\nsys.setrecursionlimit(10 ** 9)\ndef f():\n    f()\nf()", MEMORY | ERROR | TIME),
    "deep recursion in C": (
        "import sys\nsys.setrecursionlimit(10 ** 9)\nx = []\nfor _ in range(10 ** 6):\n    x = [x]\nrepr(x)",
        ERROR | MEMORY | TIME,
    ),
    "stacks of threads": (
        "import threading\nthreading.stack_size(200 << 20)\nfor _ in range(5):\n"
        "    threading.Thread(target=threading.Event().wait, daemon=True).start()",
        ERROR | MEMORY,
    ),
    "a full /tmp": (
        "total = 0\ntry:\n    for i in range(1000):\n        with open(f'/tmp/{i}', 'wb', 0) as f:\n"
        "            total += f.write(bytes(1 << 20))\nexcept OSError:\n"
        "    print('contained' if total <= 8 << 20 else 'ESCAPED')",
        CONTAINED,
    ),
    "a sparse file": (refused("open('/tmp/x', 'wb').truncate(1 << 40)"), CONTAINED),
    "one large file": (
        refused("f = open('/tmp/x', 'wb', 0)\nfor _ in range(64):\n    f.write(bytes(1 << 20))\n"),
        CONTAINED,
    ),
    "inodes": (
        "try:\n    for i in range(10 ** 9):\n        open(f'/tmp/{i}', 'w').close()\n"
        "except OSError:\n    print('contained')",
        CONTAINED | TIME,
    ),
    "deep folders": (
        "import os\ntry:\n    while True:\n        os.mkdir('d' * 200)\n        os.chdir('d' * 200)\n"
        "except OSError:\n    print('contained')",
        CONTAINED | TIME,
    ),
    "hard links": (
        "import os\nopen('/tmp/x', 'w').close()\n"
        "try:\n    for i in range(10 ** 9):\n        os.link('/tmp/x', f'/tmp/{i}')\n"
        "except OSError:\n    print('contained')",
        CONTAINED | TIME,
    ),
    "memfd": (refused("os.memfd_create('x')"), CONTAINED),
    "shared memory": (
        refused("from multiprocessing import shared_memory\nshared_memory.SharedMemory('x', True, 4096)"),
        CONTAINED,
    ),
    "System V shared memory": (CALL + f"call({number('shmget')}, 0, 1 << 20, 0o1600)", FORBID),
    "System V semaphores": (CALL + f"call({number('semget')}, 0, 1, 0o1600)", FORBID),
    "System V messages": (CALL + f"call({number('msgget')}, 0, 0o1600)", FORBID),
    "POSIX message queue": (CALL + f"call({number('mq_open')}, b'/x', 0o102, 0o600, 0)", FORBID),
    "named semaphore": (refused("from multiprocessing import Semaphore\nSemaphore()"), CONTAINED),
    "open files": (
        "import os\nheld = []\ntry:\n    while True:\n        held.append(os.dup(0))\nexcept OSError:\n"
        "    print('contained' if len(held) < 64 else 'ESCAPED')",
        CONTAINED,
    ),
    "buffers of pipes": (
        "import os, fcntl\nheld = []\n"
        "try:\n    while True:\n        r, w = os.pipe()\n        os.set_blocking(w, False)\n"
        "        held.append((r, w))\n        os.write(w, bytes(1 << 16))\nexcept OSError:\n"
        "    print('contained' if len(held) <= 31 else 'ESCAPED')",
        CONTAINED,
    ),
    "locked memory": (
        CALL
        + refused(
            "import mmap\nm = mmap.mmap(-1, 1 << 20)\n"
            f"call({number('mlock')}, ctypes.addressof(ctypes.c_char.from_buffer(m)), 1 << 20)"
        ),
        CONTAINED,
    ),
    "raised limits": (
        refused(
            "import resource\nfor name in ('CPU', 'AS', 'NOFILE', 'NPROC', 'FSIZE'):\n"
            "    which = getattr(resource, f'RLIMIT_{name}')\n"
            "    resource.setrlimit(which, (resource.RLIM_INFINITY,) * 2)",
            "OSError, ValueError",
        ),
        CONTAINED,
    ),
    "a core dump": ("import os\nos.abort()", ERROR),
}

TIME_AND_OUTPUT = {
    "busy loop": ("while True:\n    pass", TIME),
    "busy loop in C": ("sum(range(10 ** 12))", TIME),
    "busy loop that ignores signals": (
        "import signal\nfor s in range(1, 65):\n    try:\n        signal.signal(s, signal.SIG_IGN)\n"
        "    except (OSError, ValueError):\n        pass\nwhile True:\n    pass",
        TIME,
    ),
    "busy threads": (
        "import threading\ndef f():\n    while True:\n        pass\n"
        "for _ in range(4):\n    threading.Thread(target=f).start()",
        TIME,
    ),
    "catastrophic regular expression": ("import re\nre.match('(a+)+$', 'a' * 60 + 'b')", TIME),
    "sleep": ("import time\ntime.sleep(10 ** 6)", TIME),
    "sleep without descriptors": ("import os, time\nos.closerange(0, 100)\ntime.sleep(10 ** 6)", TIME),
    "wait for ever": ("import threading\nthreading.Event().wait()", TIME),
    "wait for a signal": ("import signal\nsignal.pause()", TIME),
    "stop itself": ("import os, signal, time\nos.kill(os.getpid(), signal.SIGSTOP)\ntime.sleep(10 ** 6)", TIME),
    "a thread that outlives the program": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(10 ** 6,)).start()",
        TIME,
    ),
    "an exit that hangs": ("import atexit, time\natexit.register(time.sleep, 10 ** 6)", TIME),
    "exit refused": ("while True:\n    try:\n        raise SystemExit\n    except BaseException:\n        pass", TIME),
    "alarm storm": (
        "import signal\nsignal.setitimer(signal.ITIMER_REAL, 1e-6, 1e-6)\nwhile True:\n    pass",
        TIME | ERROR,
    ),
    "deep source": ("(" * 100_000, COMPILE),
    "deep unary source": ("-" * 200_000 + "1", COMPILE | ERROR),
    "NUL in source": ("print(1)\0print(2)", COMPILE),
    "not a program": ("<html>", COMPILE),
    "endless stdout": ("while True:\n    print('x' * 1000)", OUTPUT),
    "endless stderr": ("import sys\nwhile True:\n    sys.stderr.write('x' * 1000)", OUTPUT),
    "one endless line": ("import os\nwhile True:\n    os.write(1, b'x' * 65536)", OUTPUT),
    "output after stdout is closed": ("import os, time\nos.close(1)\nos.close(2)\nwhile True:\n    pass", TIME),
    "NUL and broken UTF-8": (
        r"import sys; sys.stdout.buffer.write(b'contained\x00\xff\xfe\xed\xa0\x80')",
        CONTAINED,
    ),
    "terminal sequences": (r"print('contained\x1b]0;title\x07\x1b[2J\r\n')", CONTAINED),
}

SIGNALS_AND_SIGHT = {
    "signal to all": (
        "import os, signal\ntry:\n    os.kill(-1, signal.SIGKILL)\nexcept OSError:\n    pass\nprint('contained')",
        CONTAINED,
    ),
    "signal to the parent": (
        "import os, signal\n"
        "try:\n    os.kill(os.getppid(), signal.SIGKILL)\nexcept OSError:\n    pass\nprint('contained')",
        CONTAINED | ERROR | MEMORY,
    ),
    "signals to every id": (
        "import os\nhit = 0\nfor pid in range(2, 40_000):\n    try:\n        os.kill(pid, 9)\n        hit += 1\n"
        "    except ProcessLookupError:\n        pass\nprint('ESCAPED' if hit else 'contained')",
        CONTAINED,
    ),
    "its group": ("import os\ntry:\n    os.killpg(0, 9)\nexcept OSError:\n    pass\nprint('contained')", CONTAINED),
    "ptrace": (CALL + f"call({number('ptrace')}, 16, 1, 0, 0)", FORBID),
    "memory of others": (CALL + f"call({number('process_vm_readv')}, 1, 0, 0, 0, 0, 0)", FORBID),
    "descriptors of others": (CALL + f"call({number('pidfd_getfd')}, 1, 0, 0)", FORBID),
    "/etc": (refused("open('/etc/passwd')"), CONTAINED),
    "/proc of itself": (refused("os.listdir('/proc/self/fd')"), CONTAINED),
    "/proc of others": (refused("open('/proc/1/environ')"), CONTAINED),
    "/sys": (refused("os.listdir('/sys')"), CONTAINED),
    "devices": ("import os\nprint('contained' if os.listdir('/dev') == ['null'] else 'ESCAPED')", CONTAINED),
    "a new device": (CALL + f"call({number('mknodat')}, -100, b'/tmp/sda', 0o60666, 0x800)", FORBID),
    "every file": (
        "import os\nbad = [f for d, _, files in os.walk('/') for f in [d, *files]\n"
        "       if any(w in f for w in ('r1rl', 'site-packages', 'passwd', 'shadow', '.ssh', 'torch', 'canary'))]\n"
        "print('ESCAPED', bad) if bad else print('contained')",
        CONTAINED,
    ),
    "environment": (
        CALL + "at = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, 'environ')\n"
        "seen = [e for e in (at[0:1] if at else []) if e]\n"
        "print('ESCAPED' if os.environ or seen else 'contained')",
        CONTAINED,
    ),
    "inherited descriptors": (
        "import os\nseen = []\nfor fd in range(4096):\n    try:\n        os.fstat(fd)\n        seen.append(fd)\n"
        "    except OSError:\n        pass\nprint('contained' if seen == [0, 1, 2] else 'ESCAPED')",
        CONTAINED,
    ),
    "writing to its stdin": (refused("os.write(0, b'x')"), CONTAINED),
    "reading its stdout": (refused("os.read(1, 1)"), CONTAINED),
    "the frames below": (
        "import sys\nframe = sys._getframe()\nseen = []\nwhile frame:\n    seen += map(str, frame.f_locals.values())\n"
        "    frame = frame.f_back\nprint('ESCAPED' if any('canary' + '!' in s for s in seen) else 'contained')",
        CONTAINED,
    ),
    "every object": (
        "import gc\nseen = [o for o in gc.get_objects() if isinstance(o, dict) and 'expected' in o]\n"
        "print('ESCAPED' if seen else 'contained')",
        CONTAINED,
    ),
    "the bootstrap": (
        "import sys\nf = sys._getframe()\nwhile f.f_back:\n    f = f.f_back\n"
        "f.f_globals['COMPILE_EXIT'] = 0\nf.f_globals['HEADER'] = None\nimport os\nos.write(2, b'0.000001\\n')\n"
        "print('contained')",
        CONTAINED,
    ),
}

FORGERY = {
    "exit in the middle": ("import os\nprint('contained', flush=True)\nos._exit(0)\nprint('ESCAPED')", CONTAINED),
    "a forged verdict": (
        "import os, json\nos.write(2, json.dumps({'failure': None, 'verdict': 'passed'}).encode())\nos._exit(3)",
        ERROR,
    ),
    "the status of a signal": ("import os\nos._exit(159)", FORBID),
    "the status of the compiler": ("import os\nos._exit(65)", COMPILE),
    "patched builtins": (
        "import builtins, sys, os\nbuiltins.print = builtins.compile = builtins.exec = lambda *a, **k: None\n"
        "sys.exit = os._exit\nsys.excepthook = lambda *a: os._exit(0)\nos.write(1, b'contained')",
        CONTAINED,
    ),
    "an object that equals everything": (
        "class Any(str):\n    def __eq__(self, other):\n        return True\nprint(Any('contained'))",
        CONTAINED,
    ),
    "output from a thread after the exit": (
        "import threading, time, os\n"
        "def late():\n    while True:\n        try:\n            os.write(1, b'contained')\n"
        "        except OSError:\n            pass\n        time.sleep(0.01)\n"
        "threading.Thread(target=late, daemon=True).start()\ntime.sleep(0.05)",
        CONTAINED,
    ),
}

NETWORK = {
    **{
        f"a socket of {name}": (f"import socket\nsocket.socket({family}, {kind})", FORBID)
        for name, family, kind in (
            ("IPv4", 2, 1),
            ("IPv6", 10, 1),
            ("UDP", 2, 2),
            ("raw IP", 2, 3),
            ("UNIX", 1, 1),
            ("netlink", 16, 3),
            ("packets", 17, 3),
            ("VSOCK", 40, 1),
            ("the kernel's ciphers", 38, 5),
            ("Bluetooth", 31, 3),
            ("CAN", 29, 3),
        )
    },
    "HTTP": ("import urllib.request\nurllib.request.urlopen('http://127.0.0.1:1')", FORBID),
    "asyncio": ("import asyncio\nasyncio.run(asyncio.open_connection('127.0.0.1', 1))", FORBID),
    "names": ("import socket\nsocket.getaddrinfo('example.com', 80)", FORBID | ERROR),
    "an abstract socket": ("import socket\nsocket.socket(socket.AF_UNIX).connect('\\0canary')", FORBID),
    "a pair of IPv4 sockets": ("import socket\nsocket.socketpair(2, 1)", FORBID),
    "a descriptor sent to itself": (
        "import socket\na, b = socket.socketpair()\nsocket.send_fds(a, [b'x'], [0])\nprint('contained')",
        CONTAINED,
    ),
}

SYSTEM = {
    "nested user namespace": (CALL + f"call({number('unshare')}, 0x10000000)", FORBID),
    "another namespace": (CALL + f"call({number('setns')}, 0, 0)", FORBID),
    "mount": (CALL + f"call({number('mount')}, b'proc', b'/tmp', b'proc', 0, 0)", FORBID),
    "remount": (CALL + f"call({number('mount')}, 0, b'/', 0, 32 | 4096, 0)", FORBID),
    "unmount": (CALL + f"call({number('umount2')}, b'/tmp', 2)", FORBID),
    "pivot_root": (CALL + f"call({number('pivot_root')}, b'/tmp', b'/tmp')", FORBID),
    "chroot": ("import os\nos.chroot('/tmp')", FORBID),
    "bpf": (CALL + f"call({number('bpf')}, 5, 0, 0)", FORBID),
    "perf": (CALL + f"call({number('perf_event_open')}, 0, 0, -1, -1, 0)", FORBID),
    "userfaultfd": (CALL + f"call({number('userfaultfd')}, 1)", FORBID),
    "io_uring": (CALL + f"call({number('io_uring_setup')}, 8, (ctypes.c_char * 120)())", FORBID),
    "keys": (CALL + f"call({number('keyctl')}, 0, -3, 0)", FORBID),
    "add_key": (CALL + f"call({number('add_key')}, b'user', b'x', b'y', 1, -3)", FORBID),
    "handles of files": (CALL + f"call({number('open_by_handle_at')}, 0, 0, 0)", FORBID),
    "kernel log": (CALL + f"call({number('syslog')}, 3, 0, 0)", FORBID),
    "modules": (CALL + f"call({number('init_module')}, 0, 0, b'')", FORBID),
    "reboot": (CALL + f"call({number('reboot')}, 0xFEE1DEAD, 672274793, 0x1234567, 0)", FORBID),
    "clock": ("import time\ntime.clock_settime(time.CLOCK_REALTIME, 0)", FORBID),
    "host name": ("import socket\nsocket.sethostname('mine')", FORBID),
    "become root": ("import os\nos.setuid(0)", FORBID),
    "capabilities": (
        CALL + f"call({number('capset')}, (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())",
        FORBID,
    ),
    "personality": (CALL + refused("call(135, 0x0040000)"), CONTAINED),
    "priority": (refused("os.nice(-5)"), CONTAINED),
    "another filter": (
        CALL + refused("call(157, 22, 2, 0, 0, 0)" if os.uname().machine == "x86_64" else "call(167, 22, 2, 0, 0, 0)"),
        CONTAINED,
    ),
    "typing into a terminal": ("import fcntl\nfcntl.ioctl(0, 0x5412, b'x')", FORBID),
    "x32 system calls": (CALL + "call(0x40000000 + 39)", FORBID),
    "32-bit system calls": (
        "import ctypes, mmap\ncode = mmap.mmap(-1, 4096, prot=7)\ncode.write(bytes.fromhex('b814000000cd80c3'))\n"
        "address = ctypes.addressof(ctypes.c_char.from_buffer(code))\n"
        "print('ESCAPED', ctypes.CFUNCTYPE(ctypes.c_int)(address)())",
        FORBID if os.uname().machine == "x86_64" else ERROR,
    ),
    "machine code": (
        "import ctypes, mmap\ncode = mmap.mmap(-1, 4096, prot=7)\n"  # mov eax, 41; xor edi, edi; syscall: a socket
        "code.write(bytes.fromhex('b82900000031ff0f05c3'))\n"
        "address = ctypes.addressof(ctypes.c_char.from_buffer(code))\nctypes.CFUNCTYPE(ctypes.c_int)(address)()",
        FORBID if os.uname().machine == "x86_64" else ERROR,
    ),
    "a null pointer": ("import ctypes\nctypes.string_at(0)", ERROR),
}

FILES = {
    "the root": (refused("open('/x', 'w')"), CONTAINED),
    "the library": (refused("import json\nopen(json.__file__, 'a')"), CONTAINED),
    "the interpreter": (refused("open(sys.executable, 'r+b')"), CONTAINED),
    "rights of the root": (refused("os.chmod(sys.executable, 0o777)"), CONTAINED),
    "a link to the outside": (refused("os.symlink('/etc/passwd', '/tmp/x')\nopen('/tmp/x')"), CONTAINED),
    "many dots": (refused("open('/tmp/' + '../' * 50 + 'etc/passwd')"), CONTAINED),
    "a hard link to the interpreter": (refused("os.link(sys.executable, '/tmp/x')"), CONTAINED),
    "the folder itself": (refused("os.rename('/tmp', '/tmp2')"), CONTAINED),
    "an archive that writes outside": (
        "import io, tarfile\nbuffer = io.BytesIO()\nwith tarfile.open(fileobj=buffer, mode='w') as t:\n"
        "    info = tarfile.TarInfo('../../../../root/canary')\n    info.size = 1\n"
        "    t.addfile(info, io.BytesIO(b'x'))\n"
        "buffer.seek(0)\n" + refused("tarfile.open(fileobj=buffer).extractall('/tmp', filter='fully_trusted')"),
        CONTAINED,
    ),
    "an archive with a link": (
        "import io, tarfile\nbuffer = io.BytesIO()\nwith tarfile.open(fileobj=buffer, mode='w') as t:\n"
        "    link = tarfile.TarInfo('l')\n    link.type = tarfile.SYMTYPE\n"
        "    link.linkname = '/'\n    t.addfile(link)\n"
        "    info = tarfile.TarInfo('l/canary')\n    info.size = 1\n"
        "    t.addfile(info, io.BytesIO(b'x'))\n"
        "buffer.seek(0)\n" + refused("tarfile.open(fileobj=buffer).extractall('/tmp', filter='fully_trusted')"),
        CONTAINED,
    ),
    "a program that is set-user-id": (
        "import os, sys, shutil\nshutil.copy(sys.executable, '/tmp/p')\nos.chmod('/tmp/p', 0o6755)\n"
        "os.execv('/tmp/p', ['/tmp/p', '-S', '-c', "
        '\'import os; print("ESCAPED" if 0 in os.getresuid() else "contained")\'])',
        CONTAINED | ERROR,
    ),
}

_KINDS = (PROCESSES, MEMORY_AND_DISK, TIME_AND_OUTPUT, SIGNALS_AND_SIGHT, FORGERY, NETWORK, SYSTEM, FILES)
PYTHON = [Attack(name, Program(source), ends) for kind in _KINDS for name, (source, ends) in kind.items()]

FORBIDDEN_CALLS = [
    Attack(f"system call {name}", Program(CALL + f"call({number(name)}, 0, 0, 0, 0, 0, 0)\nprint('ESCAPED')"), FORBID)
    for name in FORBIDDEN
    if number(name) < 100_000
]

_CPP = {
    "C++: a file of this machine": ('#include "/etc/passwd"\nint main() {}', COMPILE),
    "C++: an endless file": ('#include "/dev/zero"\nint main() {}', COMPILE),
    "C++: a file as data": ('asm(".incbin \\"/etc/passwd\\"");\nint main() {}', COMPILE),
    "C++: a recursive header": ('#include "/dev/stdin"\nint main() {}', COMPILE),
    "C++: endless templates": ("template <int n> struct S : S<n + 1> {};\nS<0> s;\nint main() {}", COMPILE),
    "C++: a huge executable": ("char a[1 << 28] = {1};\nint main() {}", COMPILE),
    "C++: a huge array": ("char a[1LL << 40];\nint main() {}", COMPILE | MEMORY | ERROR),
    "C++: fork": ("#include <unistd.h>\nint main() { for (;;) fork(); }", FORBID),
    "C++: a socket before main": (
        "#include <sys/socket.h>\nstruct S { S() { socket(2, 1, 0); } } s;\nint main() {}",
        FORBID,
    ),
    "C++: memory": (
        "#include <vector>\nint main() { std::vector<char> v; for (;;) v.resize(v.size() + (1 << 26)); }",
        MEMORY,
    ),
    "C++: recursion": (
        "int f(int n) { volatile char a[999]; a[0] = n; return f(n + 1) + a[0]; }\nint main() { return f(0); }",
        ERROR | MEMORY,
    ),
    "C++: busy loop": ("int main() { for (volatile int i = 0;; i++); }", TIME),
    "C++: output": ('#include <cstdio>\nint main() { for (;;) puts("x"); }', OUTPUT),
}
CPP = [Attack(name, Program(source, "cpp"), ends) for name, (source, ends) in _CPP.items()]

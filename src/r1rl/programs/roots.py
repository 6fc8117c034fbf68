"""The folders that sandboxes see as ``/``: one with a Python interpreter and nothing else, one for a compiler.

The interpreter is this process's own, copied with its standard library and shared libraries to the paths they have
outside: installed packages, the user's files and this folder's neighbours are not in it, and it is readable by a user
without rights where the original is not. Everything is mounted read-only.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path

from r1rl.programs import bootstrap

PREFIX = "r1rl-programs-"
BOOTSTRAP = "/bootstrap.py"
_LOCK = "in-use"
_LEFT_OUT = shutil.ignore_patterns(
    "site-packages", "dist-packages", "test", "tests", "config-*", "idlelib", "ensurepip", "lib2to3", "distutils",
    "pydoc_data", "tkinter", "turtle*", "*.opt-?.pyc", "_tkinter.*", "_curses*", "readline.*", "_dbm.*", "_gdbm.*",
    "nis.*", "_test*", "_xx*", "xx*", "_ctypes_test.*", "ossaudiodev.*", "_sqlite3.*", "_ssl.*", "EXTERNALLY-MANAGED",
)  # fmt: skip
_LIBRARY = re.compile(r"(/\S+) \(0x")
_LOADED_BY_LIBC = "libgcc_s.so.1"
"""For ``pthread_exit``, by which Python ends daemon threads; named by no binary."""
_LDD_S = 60.0
_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64")
"""Folders that are links into /usr where the two are merged."""


class Roots:
    """Both folders, below a temporary one that is removed at ``close`` and when the interpreter ends.

    A process that was killed leaves its folder; the next one of the same user removes it.
    """

    def __init__(self) -> None:
        place = _place()
        _remove_abandoned(place)
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        self.close = weakref.finalize(self, _remove, self.folder, _lock(self.folder))
        self.folder.chmod(0o755)
        self.interpreter = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
        """Path of the interpreter, the same inside and outside."""
        self.python = self._skeleton("python")
        self._copy_interpreter()
        self.compiler = self._skeleton("compiler")
        self._link_system()

    def _skeleton(self, name: str) -> Path:
        """A root with places to mount /tmp and /dev/null on."""
        root = self.folder / name
        for folder in ("tmp", "dev", "usr"):
            (root / folder).mkdir(parents=True)
        (root / "dev/null").touch()
        return root

    def _copy_interpreter(self) -> None:
        standard = Path(sysconfig.get_path("stdlib"))
        native = Path(sysconfig.get_config_var("DESTSHARED") or standard / "lib-dynload")
        _copy_folder(standard, self.python)
        if not native.is_relative_to(standard):
            _copy_folder(native, self.python)
        modules = [path for path in self.python.rglob("*.so") if path.is_file()]
        for file in [Path(self.interpreter), *_libraries([Path(self.interpreter), *modules])]:
            target = self.python / file.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)
        shutil.copyfile(bootstrap.__file__, self.python / BOOTSTRAP[1:])
        for folder in [self.python, *self.python.rglob("*")]:  # whatever the umask of this process
            folder.chmod(0o755 if folder.is_dir() or os.access(folder, os.X_OK) else 0o644)

    def _link_system(self) -> None:
        for name in _SYSTEM:
            if os.path.islink(f"/{name}"):
                (self.compiler / name).symlink_to(os.readlink(f"/{name}"))
            elif os.path.isdir(f"/{name}"):
                (self.compiler / name).mkdir()
        for folder in self.compiler_mounts():
            (self.compiler / folder[1:]).mkdir(parents=True, exist_ok=True)
        (self.compiler / "dev/null").chmod(0o644)

    def compiler_mounts(self) -> list[str]:
        """Folders of the system that a compiler needs, at the same path inside and outside."""
        unmerged = [f"/{name}" for name in _SYSTEM if os.path.isdir(f"/{name}") and not os.path.islink(f"/{name}")]
        below_usr = ("bin", "include", "lib", "lib32", "lib64", "libexec", "libx32")
        return [*unmerged, *(f"/usr/{name}" for name in below_usr if os.path.isdir(f"/usr/{name}"))]


def _copy_folder(source: Path, root: Path) -> None:
    shutil.copytree(source, root / source.relative_to("/"), ignore=_LEFT_OUT, dirs_exist_ok=True)


def _libraries(binaries: Iterable[Path]) -> list[Path]:
    """Shared libraries that these need, as the dynamic linker finds them; none for static binaries."""
    found = subprocess.run(
        ["ldd", *map(str, binaries)], capture_output=True, text=True, timeout=_LDD_S, stdin=subprocess.DEVNULL
    )
    libraries = {Path(path) for path in _LIBRARY.findall(found.stdout)}
    at_run_time = {folder / _LOADED_BY_LIBC for folder in {library.parent for library in libraries}}
    return sorted(libraries | {path for path in at_run_time if path.exists()})


def _lock(folder: Path) -> int:
    """Hold a folder of this process; the descriptor is closed when the process ends."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def _place() -> Path:
    """Where temporary files belong; as root, where the user without rights that sandboxes run as may look, too."""
    given = Path(tempfile.gettempdir())
    for place in (given, Path("/tmp"), Path("/var/tmp")):
        folders = [place, *place.parents]
        if os.geteuid() != 0 or all(folder.is_dir() and folder.stat().st_mode & 0o001 for folder in folders):
            return place
    return given


def _remove_abandoned(place: Path) -> None:
    """Remove the folders of processes that ended without doing so."""
    for folder in place.glob(f"{PREFIX}*"):
        try:
            if folder.lstat().st_uid != os.geteuid() or not (folder / _LOCK).is_file():
                continue
            descriptor = _lock(folder)
        except OSError:  # in use, or removed meanwhile
            continue
        _remove(folder, descriptor)


def _remove(folder: Path, lock: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)

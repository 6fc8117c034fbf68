"""The languages of programs, and how each becomes something that runs."""

from __future__ import annotations

import shutil
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Language:
    """A compiled language has the command of its compiler; Python, whose interpreter is the sandbox's own, has none."""

    compiler: str = ""
    """Its name, found below /usr; empty if there is none."""
    options: tuple[str, ...] = ()
    """Source on stdin; the executable is to be /tmp/program, static, so that it needs nothing of this machine."""
    probe: str = ""
    """A program that every working compiler accepts."""
    install: str = ""


LANGUAGES = {
    "python": Language(),
    "cpp": Language(
        "g++",
        ("-x", "c++", "-std=c++17", "-O2", "-static", "-pipe", "-o", "/tmp/program", "-"),
        "#include <bits/stdc++.h>\nint main() { std::cout << 1; }\n",
        "apt install g++ (with its static libraries)",
    ),
}


def available() -> tuple[str, ...]:
    """The languages that this machine can run."""
    return tuple(
        name
        for name, language in LANGUAGES.items()
        if not language.compiler or (shutil.which(language.compiler, path="/usr/bin") is not None)
    )

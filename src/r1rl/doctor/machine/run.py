"""Runs each check in a process of its own, under a deadline: a crash or a hang takes nothing else along."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

from r1rl.doctor.machine.checks import Proof
from r1rl.doctor.machine.findings import Shown

Status = Literal["passed", "failed", "not tried"]
LOG_LINES = 120
"""Last lines of a failed check's output that are kept."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The outcome of one check."""

    name: str
    what: str
    status: Status
    seconds: float
    reason: str = ""
    """Why it failed or was not tried."""
    summary: str = ""
    """The figures that matter most."""
    figures: Mapping[str, Shown] = field(default_factory=dict)
    log: tuple[str, ...] = ()
    """The end of a failed check's output."""


def run_checks(checks: Iterable[Proof]) -> Iterator[CheckResult]:
    """The results of the checks, one after the other, as each ends."""
    for check in checks:
        if check.part is not None and importlib.util.find_spec(check.part.module) is None:
            reason = f"{check.part.module} is not installed: {check.part.install}"
            yield CheckResult(check.name, check.what, "not tried", 0.0, reason)
            continue
        with tempfile.TemporaryDirectory(prefix="r1rl-machine-") as folder:
            yield run_check(check, Path(folder))


def run_check(check: Proof, folder: Path) -> CheckResult:
    """Run one check. ``folder`` is for its files and becomes its TMPDIR."""
    answer, log = folder / "result.json", folder / "log"
    command = [sys.executable, "-m", "r1rl.doctor.machine.attempt", check.use, str(answer)]
    environment = os.environ | {"TMPDIR": str(folder), "HF_HUB_OFFLINE": "1"} | dict(check.environment)
    began = time.monotonic()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=environment, start_new_session=True
        )
        try:
            code: int | None = process.wait(check.deadline_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
    seconds = time.monotonic() - began
    said = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
    if answer.is_file():
        row = json.loads(answer.read_text(encoding="utf-8"))
        kept = tuple(said) if row["status"] == "failed" else ()
        return CheckResult(check.name, check.what, seconds=seconds, log=kept, **row)
    return CheckResult(check.name, check.what, "failed", seconds, _died(code, check.deadline_s, said), log=tuple(said))


def _died(code: int | None, deadline_s: float, said: list[str]) -> str:
    """Why there is no answer."""
    if code is None:
        return f"no answer within {deadline_s:g} s"
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with status {code}" + (f": {said[-1].strip()[:200]}" if said else "")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the check's process and everything that it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

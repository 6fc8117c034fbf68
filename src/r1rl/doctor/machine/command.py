"""``r1rl doctor --machine``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from r1rl.doctor.machine.checks import CHECKS, Proof
from r1rl.doctor.machine.report import WRITTEN_BY, show, write
from r1rl.doctor.machine.run import run_checks
from r1rl.errors import ConfigError
from r1rl.files import check_generated
from r1rl.tracking.console import Console


def chosen(names: Sequence[str]) -> list[Proof]:
    """The checks with these names; all of them for none.

    Raises: ConfigError for a name that no check has.
    """
    known = {each.name: each for each in CHECKS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"there is no check {unknown[0]!r}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else list(CHECKS)


def check_machine(checks: Sequence[Proof], path: Path, console: Console) -> int:
    """Run these checks, write the results to ``path`` as they come, and show them; returns the exit code.

    Raises: ForeignError, StorageError: ``path`` cannot be written.
    """
    check_generated(path, WRITTEN_BY)
    results = []
    with console.progress("checking this machine", total=len(checks), unit="check") as progress:
        for each, result in zip(checks, run_checks(checks), strict=True):
            results.append(result)
            write(path, results)
            progress.update(done=len(results), last=f"{each.name} {result.status}")
    show(results, console)
    console.say(f"all figures are in {path}")
    return int(any(result.status == "failed" for result in results))

"""The process of one check: ``python -m r1rl.doctor.machine.attempt MODULE:FUNCTION RESULT`` writes a JSON file."""

from __future__ import annotations

import faulthandler
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from r1rl.distributed.interrupt import end_with
from r1rl.doctor.machine.findings import CheckFunction, Findings, NotTried
from r1rl.errors import R1Error, first_line
from r1rl.files import write_json
from r1rl.locate import load


def attempt(check: CheckFunction) -> dict[str, Any]:
    """``status`` (passed, failed, not tried), ``reason``, ``summary`` and ``figures`` of one check."""
    found = Findings()
    try:
        check(found)
        status, reason = ("failed" if found.wrong else "passed"), "; ".join(found.wrong)
    except NotTried as untried:
        status, reason = "not tried", str(untried)
    except Exception as error:  # any error of a check is its result; the traceback goes to the check's log
        traceback.print_exc()
        said = str(error) if isinstance(error, R1Error) else f"{type(error).__name__}: {first_line(error)}"
        status, reason = "failed", "; ".join([*found.wrong, said])
    return {"status": status, "reason": reason, "summary": found.summary, "figures": found.figures}


def main(use: str, result: str) -> None:
    faulthandler.enable()
    end_with(os.getppid())
    write_json(Path(result), attempt(load(use)))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Results of the checks as a table, a JSON file, and the page docs/machine.md.

``python -m r1rl.doctor.machine.report docs/machines/*.json > docs/machine.md`` writes the page.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import r1rl
from r1rl.doctor.machine.checks import CHECKS
from r1rl.doctor.machine.run import CheckResult
from r1rl.errors import ConfigError, writing
from r1rl.files import check_generated, write_json
from r1rl.tracking.console import Console, duration

WRITTEN_BY = "r1rl doctor --machine"
"""In every file that this module writes."""


def show(results: Sequence[CheckResult], console: Console) -> None:
    """One table of what was tried, and a list of what was not."""
    tried = [result for result in results if result.status != "not tried"]
    rows = [[result.name, result.status, duration(result.seconds), summary(asdict(result))] for result in tried]
    console.table("this machine", ["check", "result", "time", "what was found"], rows)
    if untried := [[result.name, result.reason] for result in results if result.status == "not tried"]:
        console.table("not tried", ["check", "why, and what to do"], untried)
    failed = [result.name for result in results if result.status == "failed"]
    console.say(f"failed: {', '.join(failed)}" if failed else f"all {len(tried)} checks that could be tried hold")


def summary(result: Mapping[str, Any]) -> str:
    """What went wrong, or was measured."""
    return str(result["reason"] or result["summary"])


def write(path: Path, results: Sequence[CheckResult]) -> None:
    """Write all results as JSON; a file of someone else's is not replaced.

    Raises: ForeignError, StorageError.
    """
    check_generated(path, WRITTEN_BY)
    content = {
        "written_by": WRITTEN_BY,
        "r1rl": r1rl.__version__,
        "date": datetime.now(UTC).date().isoformat(),
        "passed": all(result.status != "failed" for result in results),
        "seconds": sum(result.seconds for result in results),
        "checks": [asdict(result) for result in results],
    }
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, content)


PAGE = """# Is this machine ready?
```bash
r1rl doctor --machine
```
tries in minutes, without a download, whether what r1rl needs works on a machine, and measures how fast it is. Run it
first on a new one. It takes the first GPU, or the CPU, and prints one table; `--json FILE` says where all figures go
(`machine.json`). The exit code is 0 if everything that could be tried holds. What could not be tried is listed with
what to install or attach. `--check NAME` runs one check; it may be repeated.

Each check has a process and a deadline of its own, so one that crashes or hangs fails alone:

{checks}

Bounds: attention and log-probabilities are compared with float64 arithmetic (relative root mean squares, 1e-5 and 1e-4
in float32); engines may be off by what rounding does to the model ([vllm.md](vllm.md)); the predicted memory by 15 %.
MFU counts 6 operations per parameter and trained token plus causal attention, over a matrix product measured in the
same process and, for GPUs that are known, over the data sheet's figure.

## Machines
Files in `docs/machines/`, as the command writes them. This page is made from them:
`python -m r1rl.doctor.machine.report docs/machines/*.json > docs/machine.md`.
"""


def page(files: Iterable[Path]) -> str:
    """The page, in Markdown.

    Raises: ConfigError for a file that the command did not write.
    """
    checks = "\n".join(f"| {check.name} | {check.what} | {check.deadline_s:g} s |" for check in CHECKS)
    parts = [PAGE.format(checks=f"| check | what holds if it passes | deadline |\n| --- | --- | --- |\n{checks}")]
    for file in sorted(files):
        content = json.loads(file.read_text(encoding="utf-8"))
        if content.get("written_by") != WRITTEN_BY:
            raise ConfigError(f"{file} was not written by {WRITTEN_BY}")
        parts.append(_machine(file.stem, content))
    return "\n".join(parts)


def _machine(name: str, content: Mapping[str, Any]) -> str:
    rows = [
        f"| {check['name']} | {check['status']} | {check['seconds']:.0f} s | {_cell(summary(check))} |"
        for check in content["checks"]
    ]
    head = f"### {name}\nr1rl {content['r1rl']}, {content['date']}; {duration(content['seconds'])} in all.\n"
    return "\n".join([head, "| check | result | time | what was found |", "| --- | --- | --- | --- |", *rows, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    print(page([Path(name) for name in sys.argv[1:]]), end="")

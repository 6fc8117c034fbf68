"""``r1rl grade`` and ``r1rl reward``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from r1rl.config.source import parse_value
from r1rl.errors import RewardError
from r1rl.files import finite

File = Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="One JSON object per line.", show_default=False)]
Gold = Annotated[str, typer.Option(help="Field with the gold answer, or a list of accepted forms.")]
CompletionField = Annotated[str, typer.Option("--completion", help="Field with the completion.")]
GradedFile = Annotated[Path | None, typer.Option(help="Write the graded rows here.", show_default=False)]
Programs = Annotated[
    bool, typer.Option("--code", help="Run the programs on the tests in their rows, as the code reward does.")
]
CodeArgs = Annotated[
    list[str] | None,
    typer.Option("--arg", metavar="KEY=VALUE", help="With --code: argument of the code reward, such as credit=share."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing --out file.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Worker processes; one per core by default.")]
Uses = Annotated[
    list[str] | None,
    typer.Option(
        "--reward", help="A registered name, path.py:function or package.module:function.", show_default=False
    ),
]
Args = Annotated[
    list[str] | None,
    typer.Option("--arg", metavar="KEY=VALUE", help="Argument of every reward, for example target=de."),
]
Prompt = Annotated[
    str, typer.Option(help="Field with the prompt; consecutive rows with the same prompt and columns form a group.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first N rows.", show_default=False)]
ShowRows = Annotated[int, typer.Option(min=0, help="Rows to show.")]
ShowNames = Annotated[bool, typer.Option("--list", help="List the registered rewards and exit.")]


def grade(
    file: File,
    gold: Gold = "answer",
    completion: CompletionField = "completion",
    out: GradedFile = None,
    workers: Workers = None,
    overwrite: Overwrite = False,
    code: Programs = False,
    arg: CodeArgs = None,
) -> None:
    """Grade a file of completions: does each final answer equal the gold answer, or pass each program its tests?"""
    import os

    from r1rl.scoring.code_grading import grade_programs
    from r1rl.scoring.grading import grade_file
    from r1rl.tracking.console import Console
    from r1rl.verify import Checker

    console, at_once = Console(), workers or os.cpu_count() or 1
    if arg and not code:
        raise RewardError("--arg is for --code; answers are compared without arguments")
    if code:
        args = {"workers": at_once, **_arguments(arg or [])}
        grades = grade_programs(file, completion, args, out, console, overwrite)
    else:
        with Checker(at_once) as checker:
            grades = grade_file(file, gold, completion, out, checker, console, overwrite)
    rows = [(name, count, f"{count / grades.total:.2%}") for name, count in grades.outcomes.most_common()]
    console.table("verdicts", ["verdict", "rows", "share"], rows)
    rate = grades.total / grades.seconds if grades.seconds else 0.0
    console.say(f"accuracy {grades.accuracy:.4f} over {grades.total} rows ({rate:,.0f} rows/s)")
    if out is not None:
        console.say(f"wrote {out}")


def reward(
    file: Annotated[Path | None, typer.Argument(metavar="FILE.jsonl", show_default=False)] = None,
    use: Uses = None,
    arg: Args = None,
    completion: CompletionField = "completion",
    prompt: Prompt = "prompt",
    limit: Limit = None,
    show: ShowRows = 10,
    names: ShowNames = False,
) -> None:
    """Try reward functions on samples before training."""
    from r1rl.config.rewards import RewardConfig
    from r1rl.scoring import load as registry
    from r1rl.scoring.trial import try_rewards
    from r1rl.tracking.console import Console

    console = Console()
    if names or file is None or not use:
        console.table("registered rewards", ["name", "from"], registry.origins())
        if not names:
            raise RewardError("give a FILE.jsonl and at least one --reward NAME or --reward path.py:function")
        return
    args = _arguments(arg or [])
    rewards = {_short(name): RewardConfig(function=name, args=args) for name in use}
    scored, metrics = try_rewards(file, rewards, completion, prompt, limit)
    samples = [
        {**{name: finite(group.by_reward[name][index]) for name in rewards}, "completion": text.text}
        for group in scored
        for index, text in enumerate(group.group.completions)
    ]
    console.samples(f"{min(show, len(samples))} of {len(samples)} completions", samples[:show])
    console.table("over all of them", ["metric", "value"], [(name, f"{value:.4g}") for name, value in metrics.items()])


def _short(use: str) -> str:
    return use.rpartition(":")[2]


def _arguments(pairs: list[str]) -> dict[str, Any]:
    """``KEY=VALUE`` options, parsed like ``rewards.NAME.args.KEY=VALUE``."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise RewardError(f"--arg {pair!r} is not KEY=VALUE")
        found[key] = parse_value(value)
    return found

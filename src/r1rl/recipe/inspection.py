"""Inspects what a configuration names on this machine, without torch, without the network and without running any of
the user's code: files and their columns, reward functions and their arguments, model folders, launch files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from r1rl.config import DatasetConfig, RewardConfig, RunConfig, stage_config, stages_of
from r1rl.config.base import chosen
from r1rl.config.kinds import Kind, kind_of
from r1rl.config.paths import launch_file
from r1rl.config.references import references_in, strings
from r1rl.data.column_check import missing_columns
from r1rl.data.files import SourceRow
from r1rl.data.sources import first_rows
from r1rl.errors import ModelError, R1Error
from r1rl.places import FILE_ENDINGS, is_local, nearest, require_model, require_tokenizer
from r1rl.registry import SOURCES, Registry
from r1rl.scoring.load import REWARDS, check_args, place_of

_ROWS = 20
"""Rows of each source that are inspected."""
_WEIGHTS = ("*.safetensors", "*.bin", "*.safetensors.index.json")
_ON_HUB = "on the Hugging Face hub"


@dataclass(frozen=True, slots=True)
class Inspected:
    """One thing that a stage names."""

    what: str
    """Its key."""
    ok: bool | None
    """None where it cannot be decided here."""
    text: str
    """What was found, what is wrong, or why it cannot be decided."""


def inspect(config: RunConfig) -> dict[Inspected, list[str]]:
    """Everything that the stages name, each with the stages that name it."""
    found: dict[Inspected, list[str]] = {}
    for name, stage in stages_of(config).items():
        view = stage_config(config, name)
        for finding in _stage(kind_of(stage.kind), stage.launch, view, list(stages_of(config))):
            found.setdefault(finding, []).append(name)
    return found


def _stage(kind: Kind, launch: str | None, view: RunConfig, stages: list[str]) -> Iterator[Inspected]:
    uses = kind.uses
    if "model" in uses and view.model.path not in stages:
        yield _model("model.path", view.model.path)
    if "data" in uses:
        for name, source in view.data.train.items():
            yield _source(f"data.train.{name}", _for(kind, source), [attrgetter(key)(view) for key in kind.columns])
    if "data" in uses or "data.eval" in uses:
        for name, source in view.data.eval.items():
            yield _source(f"data.eval.{name}", _for(kind, source), [])
    if "data" in uses:
        for name, source in view.data.held_out.items():
            yield _source(f"data.held_out.{name}", _without_gold(source), [])
    for mix, keys in kind.mixes.items():
        for name, source in attrgetter(mix)(view).items():
            yield _source(f"{mix}.{name}", _without_gold(source), [attrgetter(key)(view) for key in keys])
    if "rewards" in uses:
        for name, reward in view.rewards.items():
            yield from _reward(name, reward)
    for part in (*kind.parts, "tracking"):
        for key, table, use in chosen(attrgetter(part)(view), part):
            if ":" in use:
                yield _own(key, table, use)
    if launch is not None:
        there = launch_file(launch) is not None
        yield Inspected(
            "launch", there, f"{launch} " + ("is there" if there else f"does not exist{nearest(Path(launch))}")
        )


# ------------------------------------------------------------------------------------------------------------ data


def _for(kind: Kind, source: DatasetConfig) -> DatasetConfig:
    """Supervised stages read no gold answer."""
    return source if kind.gold else _without_gold(source)


def _without_gold(source: DatasetConfig) -> DatasetConfig:
    return source.model_copy(update={"answer": None})


def _source(what: str, source: DatasetConfig, responses: list[str]) -> Inspected:
    if references_in(source.path):
        return Inspected(what, None, f"{source.path} is made by the run")
    if source.path.startswith("generated:") and ":" in source.path.removeprefix("generated:"):
        return _generator(what, source.path.removeprefix("generated:"))
    if source.map is not None and ":" in source.map:
        return Inspected(what, None, f"{source.path}: {source.map} makes its rows when the run starts")
    if source.path.startswith("generated:") and isinstance(source.args.get("size"), int):
        source = source.model_copy(update={"args": source.args | {"size": min(source.args["size"], _ROWS)}, "skip": 0})
    try:
        rows = first_rows(source, _ROWS)
    except R1Error as error:
        return Inspected(what, False, str(error))
    if not rows and Path(source.path).expanduser().is_dir():
        return Inspected(what, None, f"{source.path} is a folder, whose files are read when the run starts")
    if not rows and not is_local(source.path):
        return Inspected(what, None, f"{source.path} is {_ON_HUB}")
    wrong = _rows_wrong(source, rows, responses)
    place = f"{source.path} "
    columns = ", ".join(dict.fromkeys(name for row in rows for name in row.values))
    return Inspected(what, not wrong, place + (wrong or f"has the columns {columns}"))


def _rows_wrong(source: DatasetConfig, rows: list[SourceRow], responses: list[str]) -> str:
    """What is wrong with the first rows of a source; empty where nothing is."""
    if not rows:
        return f"has no row that can be read{f' after skip: {source.skip}' if source.skip else ''}"
    there = list(dict.fromkeys(name for row in rows for name in row.values))
    wrong = [missing_columns(source, there)]
    absent = [name for name in responses if name not in there and not _ends_with_a_response(source, rows)]
    if absent:
        wrong.append(f"has no column {' and no column '.join(map(repr, absent))}; it has {', '.join(there)}")
    if source.answer_pattern and source.answer in there:
        golds = [str(row.values.get(source.answer)) for row in rows]
        if not any(re.search(source.answer_pattern, gold) for gold in golds):
            wrong.append(
                f"has no {source.answer!r} in which answer_pattern {source.answer_pattern!r} finds anything, among the "
                f"first {len(rows)} rows; the first is {golds[0][:60]!r}"
            )
    return "; ".join(filter(None, wrong))


def _ends_with_a_response(source: DatasetConfig, rows: list[SourceRow]) -> bool:
    asked = [row.values.get(source.question) for row in rows]
    ends = [each[-1] for each in asked if isinstance(each, list) and each]
    return any(isinstance(message, dict) and message.get("role") == "assistant" for message in ends)


def _own(what: str, table: Registry, use: str) -> Inspected:
    """An object of the user's that a key names by ``module:name``."""
    try:
        found = table.find(use)
    except R1Error as error:
        return Inspected(what, False, str(error))
    return Inspected(
        what, True if found else None, f"{use} " + (f"is in {found.place}" if found else "is checked at import")
    )


def _generator(what: str, use: str) -> Inspected:
    try:
        found = SOURCES.find(use)
    except R1Error as error:
        return Inspected(what, False, str(error))
    return Inspected(
        what, None, f"{use} is in {found.place}; its rows are checked when the run starts" if found else use
    )


# ------------------------------------------------------------------------------------------------ models and rewards


def _model(what: str, path: str) -> Inspected:
    if references_in(path):
        return Inspected(what, None, f"{path} is made by the run")
    try:
        require_model(path)
        folder = Path(path).expanduser()
        if not folder.is_dir():
            return Inspected(what, None, f"{path} is {_ON_HUB}")
        require_tokenizer(path)
    except ModelError as error:
        return Inspected(what, False, str(error).removeprefix(f"{what}: "))
    if not any(any(folder.glob(pattern)) for pattern in _WEIGHTS):
        return Inspected(what, False, f"{path} has no weights (*.safetensors or *.bin)")
    return Inspected(what, True, f"{path} is a model folder")


def _reward(name: str, reward: RewardConfig) -> Iterator[Inspected]:
    what, use = f"rewards.{name}", reward.function or name
    if references_in(use):
        yield Inspected(what, None, f"{use} is made by the run")
        return
    try:
        found = REWARDS.find(use)
        if found is not None:
            check_args(name, found, reward.args, ours=place_of(use)[1])
    except R1Error as error:
        yield Inspected(what, False, str(error))
        return
    if found is None:
        yield Inspected(what, None, f"{use} is checked at import")
    else:
        yield Inspected(what, True, f"{use} is in {found.place}" if ":" in use else f"{use} is registered")
    for path, value in strings(reward.args):
        if _names_a_file(path[-1], value):
            yield from _argument(f"{what}.args.{'.'.join(path)}", value)


def _names_a_file(key: str, value: str) -> bool:
    """Whether an argument must be a path to read, by its file ending or by the argument's name."""
    if (
        references_in(value)
        or any(character.isspace() for character in value)
        or key.startswith(("out", "save", "log"))
    ):
        return False
    return Path(value).suffix.lower() in FILE_ENDINGS or (
        key.endswith(("path", "file", "folder", "model", "tokenizer")) and is_local(value)
    )


def _argument(what: str, value: str) -> Iterator[Inspected]:
    path = Path(value).expanduser()
    there = path.exists()
    yield Inspected(what, there, f"{value} is there" if there else f"{value} does not exist{nearest(path)}")

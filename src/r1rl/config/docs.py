"""The reference of every configuration key, made from the schema: ``python -m r1rl.config.docs > docs/config.md``."""

from __future__ import annotations

import re
import sys
import types
import typing
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from r1rl.config.base import table_of
from r1rl.config.elsewhere import TABLES
from r1rl.config.grpo import PRESET_KEYS, PRESETS, GRPOConfig
from r1rl.config.schema import RunConfig
from r1rl.config.walk import is_section, sections

INTRO = """\
# Configuration: every key

Made from the schema by `python -m r1rl.config.docs > docs/config.md`; do not edit.

A run is one YAML file. Keys left out take the defaults below; `r1rl check CONFIG` validates a file,
looks for the files, columns, reward functions and models that it names on this machine, and prints the sizes that
follow; `RUN/config.yaml` is the file with every default filled in.

- On the command line, `key.sub=value` after the file changes a key: `grpo.learning_rate=1e-4`,
  `data.train.gsm8k.limit=100`. Where the key takes text, the value is that text verbatim
  (`data.train.gsm8k.answer_pattern=#### (.+)`, in quotes for the shell); elsewhere it is YAML:
  `rollout.stop=[</answer>]`, `data.train.mine={path: mine.csv}`.
- `extends: other.yaml` builds on another file, relative to this one. A reward, stage or data source from there
  set to `null` is left out.
- `model: NAME` is short for `model: {path: NAME}`, `accuracy: 1.0` under `rewards` for `accuracy: {weight: 1.0}`, and
  `[gsm8k]` under `data.train` or `data.eval` for `{gsm8k: {preset: gsm8k}}`.
- A stage may hold its own `model`, `data`, `rollout` and `rewards`, and the section of its kind: their keys override
  the run's for that stage alone.
- `${STAGE.model}` and `${STAGE.data}` in a value stand for the outputs of an earlier stage.
- Text is YAML 1.2: `1e-4` is a number, `no` is text.
"""


def reference() -> str:
    """The whole page, in Markdown."""
    parts, described = [INTRO], dict[type[BaseModel], str]()
    for path, section, optional in sections(RunConfig):
        parts.append(_section(path, section, optional, described.get(section)))
        described.setdefault(section, path)
    return "\n".join(parts)


def counterparts() -> str:
    """The keys of TRL, open-r1 and verl beside ours, in Markdown: the tables of docs/from-trl.md."""
    parts = []
    for title, table in TABLES.items():
        here = {name: entry for name, entry in table.items() if entry.ours}
        parts += [f"### {title}", "", "| there | here | difference |", "| --- | --- | --- |"]
        parts += [
            f"| `{name}` | {', '.join(map(_code, ours.split(', ')))} | {note} |" for name, (ours, note) in here.items()
        ]
        without: dict[str, list[str]] = {}
        for name, entry in table.items():
            if not entry.ours:
                without.setdefault(entry.note, []).append(_code(name))
        if without:
            parts += ["", "| without a key here | why, or what to do |", "| --- | --- |"]
            parts += [f"| {', '.join(names)} | {note} |" for note, names in without.items()]
        parts.append("")
    return "\n".join(parts).rstrip().replace("SECTION", "sft")


def _section(path: str, section: type[BaseModel], optional: bool, like: str | None) -> str:
    keys = {name: field for name, field in section.model_fields.items() if not is_section(field)}
    title = f"## `{path}`" if path else "## Top level"
    lines = [title, "", _text(section.__doc__) + (" `null` unless given." if optional else ""), ""]
    if like is not None:
        return "\n".join([*lines, f"The keys of [`{like}`](#{like.replace('.', '').lower()}).", ""])
    if keys:
        lines += ["| Key | Type | Default | Meaning |", "| --- | --- | --- | --- |"]
        lines += [_row(name, field) for name, field in keys.items()]
        lines.append("")
    if section is GRPOConfig:
        lines += [_presets(), ""]
    return "\n".join(lines)


def _row(name: str, field: FieldInfo) -> str:
    cells = [f"`{name}`", _code(_type(field)), _code(_default(field)), _text(field.description)]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _presets() -> str:
    names = [name for name in GRPOConfig.model_fields if name in PRESET_KEYS]
    lines = ["What `algorithm` sets, for keys that are not given:", ""]
    lines += ["| `algorithm` | " + " | ".join(f"`{name}`" for name in names) + " |", "| --- " * (len(names) + 1) + "|"]
    for algorithm, preset in PRESETS.items():
        values = [preset.get(name, GRPOConfig.model_fields[name].default) for name in names]
        lines.append(f"| `{algorithm}` | " + " | ".join(_shown(value) for value in values) + " |")
    return "\n".join(lines)


def _type(field: FieldInfo) -> str:
    bounds = []
    for rule in field.metadata:
        for attribute, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
            if (value := getattr(rule, attribute, None)) is not None:
                bounds.append(f"{sign} {value}")
    table = table_of(field)
    if table is None:
        return ", ".join([_annotation(field.annotation), *bounds])
    names = " | ".join([*table, "module:name"])
    return f"list[{names}]" if typing.get_origin(field.annotation) is list else names


def _annotation(annotation: Any) -> str:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " | ".join(map(str, args))
    if origin in (types.UnionType, typing.Union):
        return " | ".join(_annotation(arg) for arg in args)
    if origin is not None:
        return f"{origin.__name__}[{', '.join(_annotation(arg) for arg in args)}]"
    if annotation is type(None):
        return "null"
    return "any" if annotation is Any else str(annotation.__name__)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return _shown(field.get_default(call_default_factory=True))


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_shown, value))}]"
    if value == {}:
        return "{}"
    return '""' if value == "" else f"{value:g}" if isinstance(value, float) else str(value)


def _text(docstring: str | None) -> str:
    text = " ".join((docstring or "").split()).replace("``", "`")
    return re.sub(r"\bNone\b", "`null`", text)


def _code(text: str) -> str:
    return f"`{text}`"


if __name__ == "__main__":
    print(counterparts() if sys.argv[1:] == ["from-trl"] else reference().rstrip("\n"))

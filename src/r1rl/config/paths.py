"""Relative paths in a configuration: relative to the folder of the file that names them, then to the current folder. A
path on the command line is relative to the current folder alone. A path that exists becomes absolute when the
configuration is read, so that the resolved configuration works from any folder; anything else is kept unchanged: a name
on the Hugging Face hub, a stage, a module. Outputs (``output_dir``, ``export.folder``) are relative to the current
folder. ``launch`` also takes the name of a file that comes with r1rl.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from r1rl.config.base import KeyPath, Origins, inside_stage
from r1rl.config.references import references_in

_INSTALLED, _REPOSITORY = Path(__file__).parents[1] / "launch", Path(__file__).parents[3] / "launch" / "accelerate"
SHIPPED = _INSTALLED if _INSTALLED.is_dir() else _REPOSITORY
"""The launch configurations that come with r1rl: in the package, or at the top of the repository that it runs from."""

GENERATED = "generated:"
"""Prefix of the ``path`` of a source whose rows a function makes."""


def absolute(raw: Mapping[str, Any], origins: Origins) -> dict[str, Any]:
    """The merged keys of a run with every path to something local made absolute."""
    stages = raw.get("stages")
    names = frozenset(stages) if isinstance(stages, Mapping) else frozenset[str]()
    return {name: _walk(value, (name,), origins, names) for name, value in raw.items()}


def like_a_path(text: str) -> bool:
    """Whether an argument, which may be anything, looks like a path; ``train`` and ``en`` do not."""
    return "/" in text or bool(Path(text).suffix)


def is_model(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a model. If not, a folder that shares its name with a model on the hub is ignored."""
    return os.path.isfile(os.path.join(folder, "config.json"))


def launch_file(name: str) -> Path | None:
    """The file that ``launch`` means: a path, or the name of one that comes with r1rl (``zero2``, ``zero2.yaml``)."""
    if Path(name).is_file():
        return Path(name).absolute()
    shipped = SHIPPED / f"{Path(name).name.removesuffix('.yaml')}.yaml"
    ours = Path(name).parent in (Path(), Path("launch/accelerate"))
    return shipped if ours and shipped.is_file() else None


def launch_names() -> list[str]:
    """Names of the launch configurations that come with r1rl."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def _walk(value: Any, key: KeyPath, origins: Origins, stages: frozenset[str]) -> Any:
    if isinstance(value, Mapping):
        return {name: _walk(inner, (*key, str(name)), origins, stages) for name, inner in value.items()}
    if isinstance(value, list):
        return [_walk(inner, (*key, str(index)), origins, stages) for index, inner in enumerate(value)]
    find = _kind(key) if isinstance(value, str) else None
    if find is None or references_in(value) or (find is _from_model and value in stages):
        return value
    return find(value, list(_folders(origins.find(key))))


def _folders(written: str) -> Iterator[Path]:
    """Where to look for a path that was ``written`` there (see :class:`Origins`)."""
    file, _, line = written.rpartition(":")
    if line.isdigit():
        yield Path(file).parent
    yield Path()


def _kind(key: KeyPath) -> Callable[[str, list[Path]], str] | None:
    """How to resolve the path in a key; None where the key is not a path."""
    match inside_stage(key):
        case ("model", "path"):
            return _from_model
        case ("model",) if key[0] == "stages":
            return _from_model
        case ("data", "train" | "eval" | "held_out", _, "path") | ("sample", "mix", _, "path"):
            return _from_path
        case ("data",) | ("launch",) if key[0] == "stages":
            return _from_path
        case (
            ("rewards", _, "function")
            | ("grpo", "loss" | "scale_rewards")
            | ("rollout", "engine")
            | ("tracking", "report_to", _)
            | ("data", "prompt", "template")
            | ("data", "train" | "eval" | "held_out", _, "map")
            | ("sample", "mix", _, "map")
            | ("data", "train" | "eval" | "held_out", _, "prompt", "template")
            | ("data", "train" | "eval" | "held_out", _, "prompts", _, "template")
            | ("sample", "mix", _, "prompt", "template")
        ):
            return _from_code
        case ("kind",) if key[0] == "stages":
            return _from_code
        case ("export", "folder"):
            return _output
        case ("args", *_) | ("rewards", _, "args", *_) | ("data", "train" | "eval" | "held_out", _, "args", *_):
            return _from_argument
    return None


def _from_path(text: str, folders: list[Path]) -> str:
    if not text.strip():
        return text
    if text.startswith(GENERATED):
        return GENERATED + _from_code(text.removeprefix(GENERATED), folders)
    places = (os.path.abspath(folder / text) for folder in folders)
    return next((place for place in places if os.path.exists(place)), text)


def _from_model(text: str, folders: list[Path]) -> str:
    """A name on the hub and a folder look alike: a folder without a model is ignored."""
    place = _from_path(text, folders)
    return place if is_model(place) or text.startswith(".") else text


def _from_code(text: str, folders: list[Path]) -> str:
    """A file; or a module, which may be beside the configuration, installed, or in the current folder."""
    place, colon, name = text.rpartition(":")
    if place.endswith(".py"):
        return _from_path(place, folders) + colon + name
    beside = _from_path(f"{place.replace('.', '/')}.py", folders[:-1])
    return beside + colon + name if place and os.path.isabs(beside) else text


def _output(text: str, folders: list[Path]) -> str:
    return os.path.abspath(os.path.expanduser(text))


def _from_argument(text: str, folders: list[Path]) -> str:
    """An argument may be anything: it is a path if it looks like one and exists."""
    return _from_path(text, folders) if like_a_path(text) else text

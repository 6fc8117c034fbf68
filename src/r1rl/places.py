"""Decides, without network access, whether a name in a configuration refers to this disk or to the Hugging Face hub."""

from __future__ import annotations

import difflib
from pathlib import Path

from r1rl.errors import ModelError

FILE_ENDINGS = frozenset(
    """.jsonl .json .ndjson .parquet .csv .tsv .txt .arrow .feather .xlsx .xls .ods .db .sqlite .pkl .npy .npz .yaml
    .yml .gz .bz2 .xz .zst .zip .tar .7z .safetensors .gguf .bin .pt .pth""".split()  # noqa: SIM905
)
"""File name extensions: a name with one of them is a file, never a name on the hub."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")


def is_local(name: str) -> bool:
    """Whether a name can only be a path on this disk, or is one that exists; on the hub it is ``[OWNER/]NAME``."""
    path = Path(name).expanduser()
    looks = name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1 or path.is_absolute()
    return looks or path.suffix.lower() in FILE_ENDINGS or path.exists()


def nearest(path: Path) -> str:
    """``; did you mean PLACE?``, or the contents of the parent folder; empty if that does not exist either."""
    around = path.parent
    if not around.is_dir():
        return f"; there is no folder {around} either" if around.parent != around else ""
    names = sorted(entry.name for entry in around.iterdir() if not entry.name.startswith("."))
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    return f"; did you mean {around / close[0]}?" if close else ""


def require_model(path: str) -> None:
    """Raises ModelError for a path that is clearly not a model, without network access."""
    if not path:
        raise ModelError("model.path is empty: give a Hugging Face name, a folder, or the name of an earlier stage")
    folder = Path(path).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"model.path: {path} has no config.json, so it is not a Hugging Face model folder")
    elif folder.exists():
        raise ModelError(f"model.path: {path} is a file; give the folder of a model in Hugging Face format")
    elif is_local(path):
        raise ModelError(
            f"model.path: no such folder: {path} does not exist (looked from {Path.cwd()}){nearest(folder)}"
        )


def require_tokenizer(path: str) -> None:
    """Raises ModelError for a folder without tokenizer, for which transformers would create an empty one."""
    folder = Path(path).expanduser()
    if folder.is_dir() and not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(
            f"{path} has no tokenizer: copy tokenizer.json and tokenizer_config.json of its base model there, "
            "or set model.path to a checkpoint that has them"
        )

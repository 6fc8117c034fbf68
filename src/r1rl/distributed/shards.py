"""Named tensors on disk: a few safetensors files, written and read without holding all of them at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

SHARD_BYTES = 2 << 30
"""Size after which a file is closed, bytes."""

NamedTensor = tuple[str, Tensor]


def write_tensors(folder: Path, tensors: Iterable[NamedTensor], write: bool = True) -> None:
    """Write each tensor ``PART/NAME`` under ``folder/PART``.

    With ``write`` False only iterate over them: reading them may be collective, so all ranks have to.

    Raises:
        OSError: they could not be written; raised after all of them were iterated over.
    """
    parts: dict[str, _Shards] = {}
    failure: OSError | None = None
    for key, tensor in tensors:
        if not write or failure is not None:
            continue
        part, _, name = key.partition("/")
        try:
            parts.setdefault(part, _Shards(folder / part)).add(name, tensor)
        except OSError as error:
            failure = error
    if failure is not None:
        raise failure
    for shards in parts.values():
        shards.close()


def read_tensors(folder: Path) -> Iterator[NamedTensor]:
    """Everything under ``folder``, one tensor at a time, in the order of the files."""
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as shard:
            for name in shard.keys():  # noqa: SIM118 - not a dictionary
                yield name, shard.get_tensor(name)


class _Shards:
    """Collects tensors and writes a file whenever they are large enough."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number, self.size = folder, 0, 0
        self.pending: dict[str, Tensor] = {}

    def add(self, name: str, tensor: Tensor) -> None:
        self.pending[name] = tensor.detach().to("cpu", copy=True).contiguous()
        self.size += tensor.nbytes
        if self.size >= SHARD_BYTES:
            self.close()

    def close(self) -> None:
        if not self.pending:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{self.number:05d}.safetensors"
        try:
            save_file(self.pending, file)
        except SafetensorError as error:
            raise OSError(f"{file.name}: {error}") from error
        self.number, self.size = self.number + 1, 0
        self.pending.clear()

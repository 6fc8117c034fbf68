"""Exports the learner's weights: gathered one by one, split into buckets, written to shared memory."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from r1rl.errors import EngineError
from r1rl.model.lora import adapted, plain_name
from r1rl.model.state import named_state, persistent_buffers

if TYPE_CHECKING:
    from r1rl.model.load import Policy

BACKEND = "r1rl_shm"
DIRECT = "r1rl_direct"
"""Names of the workers' sides with vLLM's factory: weights in shared memory, and handed over in the same process."""
SHM = "/dev/shm"
PREFIX = "r1rl-weights-"
_LOCK = "owner.lock"
_ALIGN = 64


class Meta(NamedTuple):
    """Name, dtype on the wire and full shape of one parameter or buffer."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize


class PolicyWeights:
    """:meth:`Policy.weights` in the engine's precision; each iteration reads them again. Buffers keep their own
    precision, as in a checkpoint: DeepSeek-V3 chooses experts by differences that bfloat16 does not resolve.

    Has the methods of vLLM's ``WeightSource``, so vLLM's own trainer engines take it too. Under ZeRO-3 every rank
    iterates in step: a parameter is gathered whole, yielded and freed. Tied parameters come once, adapters merged
    into the layers they belong to.
    """

    def __init__(self, policy: Policy, dtype: torch.dtype) -> None:
        self.policy, self.dtype = policy, dtype
        self._buffers = frozenset(plain_name(name) for name, _ in persistent_buffers(policy.model))
        self._metadata: list[Meta] = []

    def metadata(self) -> list[Meta]:
        """In the order of the iteration. With adapters the first call is a pass over the weights, in which under
        ZeRO-3 every rank takes part; no other call gathers anything."""
        if not self._metadata:
            whole = self.policy.weights() if adapted(self.policy.model) else named_state(self.policy.model)
            self._metadata = [
                Meta(name, self._wire(name, value), tuple(getattr(value, "ds_shape", value.shape)))
                for name, value in whole
            ]
        return self._metadata

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in self.policy.weights(self.dtype):
            yield name, tensor.detach().to(self._wire(name, tensor))

    def held_names(self) -> None:
        """Every rank holds everything."""

    def _wire(self, name: str, tensor: Tensor) -> torch.dtype:
        return tensor.dtype if name in self._buffers else self.dtype


@dataclass(frozen=True, slots=True)
class Bucket:
    """Tensors that travel in one request."""

    names: tuple[str, ...]
    dtypes: tuple[torch.dtype, ...]
    shapes: tuple[tuple[int, ...], ...]
    offsets: tuple[int, ...]


class SharedFolder:
    """A folder in shared memory that is removed with its owner. Folders whose owners died are removed first.

    The owner holds a lock on a file in it: process ids do not identify owners in other containers that share
    ``/dev/shm``.
    """

    def __init__(self) -> None:
        parent = Path(SHM if os.access(SHM, os.W_OK) else tempfile.gettempdir())
        for old in parent.glob(f"{PREFIX}*"):
            if _abandoned(old / _LOCK):
                shutil.rmtree(old, ignore_errors=True)
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent))
        self._lock = (self.path / _LOCK).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._end = weakref.finalize(self, shutil.rmtree, self.path, True)

    def close(self) -> None:
        self._end()


def _abandoned(lock: Path) -> bool:
    """Whether the lock is free; a missing lock file was never locked, or is about to be."""
    try:
        with lock.open("r+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class SharedWeights:
    """One version of the weights as a file that workers map: written once, loaded by any number of them at any time."""

    def __init__(self, path: Path, version: int, size: int, buckets: tuple[Bucket, ...]) -> None:
        self.path, self.version, self.size, self.buckets = path, version, size, buckets

    @classmethod
    def write(cls, source: PolicyWeights, version: int, folder: Path, bucket_bytes: int) -> SharedWeights:
        """Gather and write everything (a collective under ZeRO-3).

        Raises:
            EngineError: shared memory is too small for the weights.
        """
        layout, size = plan(source.metadata(), bucket_bytes)
        free = shutil.disk_usage(folder).free
        if size > free:
            raise EngineError(
                f"the weights need {size / 1e9:.1f} GB in {folder.parent}, which has {free / 1e9:.1f} GB left: "
                "enlarge it (in a container: --shm-size)"
            )
        path = folder / f"{version}.bin"
        path.touch(mode=0o600)
        bytes_N = torch.from_file(str(path), shared=True, size=size, dtype=torch.uint8)
        offsets = {name: at for bucket in layout for name, at in zip(bucket.names, bucket.offsets, strict=True)}
        for name, tensor in source:
            raw = tensor.contiguous().view(-1).view(torch.uint8)
            bytes_N[offsets[name] : offsets[name] + raw.numel()].copy_(raw)
        return cls(path, version, size, layout)

    def requests(self) -> Iterator[dict[str, Any]]:
        """The body of each ``update_weights`` request, one per bucket."""
        for bucket in self.buckets:
            yield {
                "path": str(self.path),
                "size": self.size,
                "names": list(bucket.names),
                "dtypes": [str(dtype).removeprefix("torch.") for dtype in bucket.dtypes],
                "shapes": [list(shape) for shape in bucket.shapes],
                "offsets": list(bucket.offsets),
            }

    def remove(self) -> None:
        """Free the memory once the last worker has unmapped it."""
        self.path.unlink(missing_ok=True)


def plan(metadata: list[Meta], bucket_bytes: int) -> tuple[tuple[Bucket, ...], int]:
    """Place every tensor in the file, in order, and split the order into buckets of at most ``bucket_bytes`` (a larger
    tensor gets one of its own). Returns them and the file's size in bytes."""
    buckets: list[list[tuple[Meta, int]]] = [[]]
    at = filled = 0
    for meta in metadata:
        if buckets[-1] and filled + meta.nbytes > bucket_bytes:
            buckets.append([])
            filled = 0
        buckets[-1].append((meta, at))
        filled += meta.nbytes
        at += -(-meta.nbytes // _ALIGN) * _ALIGN
    made = tuple(
        Bucket(
            tuple(m.name for m, _ in b),
            tuple(m.dtype for m, _ in b),
            tuple(m.shape for m, _ in b),
            tuple(at for _, at in b),
        )
        for b in buckets
    )
    return made, at

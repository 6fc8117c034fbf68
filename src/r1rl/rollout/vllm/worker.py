"""Runs inside vLLM's workers: loads weights that are handed over in the same process, or lie in shared memory.

vLLM finds :func:`register` through its plug-in entry point ``vllm.general_plugins`` in every one of its processes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from vllm.config import set_current_vllm_config
from vllm.distributed.weight_transfer import WeightTransferEngineFactory
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from r1rl.rollout.vllm.weights import BACKEND, DIRECT, PREFIX, SHM

UpdateT = TypeVar("UpdateT", bound=WeightTransferUpdateInfo)


def register() -> None:
    """Make the engines known to vLLM; calling it again does nothing."""
    for backend, engine in ((BACKEND, SharedMemoryEngine), (DIRECT, DirectEngine)):
        if backend not in WeightTransferEngineFactory._registry:
            WeightTransferEngineFactory.register_engine(backend, engine)


@dataclass
class NothingToNegotiate(WeightTransferInitInfo):
    """Both sides know all they need."""


@dataclass
class DirectUpdate(WeightTransferUpdateInfo):
    """Names and tensors of this process, read once and in order."""

    weights: Iterable[tuple[str, torch.Tensor]]


@dataclass
class SharedMemoryUpdate(WeightTransferUpdateInfo):
    """One bucket: tensors by name, as bytes at ``offsets`` of a file of ``size`` bytes."""

    path: str
    size: int
    names: list[str]
    dtypes: list[str]
    shapes: list[list[int]]
    offsets: list[int]


class LayerwiseEngine(WeightTransferEngine[NothingToNegotiate, UpdateT]):
    """Loads weights in the format of a checkpoint through vLLM's layer-wise reload, on a CPU too."""

    init_info_cls = NothingToNegotiate

    def init_transfer_engine(self, init_info: NothingToNegotiate) -> None:
        del init_info

    def start_weight_update(self) -> None:
        with torch.device(self.device):
            initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        # The base class ends by synchronizing an accelerator, which a CPU does not have.
        self.receive_weights(self.parse_update_info(update_info))
        if self.device.type != "cpu":
            torch.accelerator.synchronize()

    def finish_weight_update(self) -> None:
        with torch.device(self.device), set_current_vllm_config(self.vllm_config):
            finalize_layerwise_reload(self.model, self.model_config)
            if self.device.type == "cpu":
                self._repack_embeddings()

    def _repack_embeddings(self) -> None:
        """The CPU build multiplies by a packed copy of the output head. With tied embeddings the reload fills the
        shared weight but packs it for one of its two modules only, so the head would keep the old weights."""
        for _, module in self.model.named_modules(remove_duplicate=False):
            if isinstance(module, VocabParallelEmbedding):
                module.quant_method.process_weights_after_loading(module)

    def shutdown(self) -> None:
        """Holds nothing between updates."""


class DirectEngine(LayerwiseEngine[DirectUpdate]):
    """Loads the trainer's own tensors, for an engine in its process."""

    update_info_cls = DirectUpdate

    def receive_weights(self, update_info: DirectUpdate) -> None:
        self.model.load_weights(iter(update_info.weights))


class SharedMemoryEngine(LayerwiseEngine[SharedMemoryUpdate]):
    """Loads weights from a file in shared memory."""

    update_info_cls = SharedMemoryUpdate

    def receive_weights(self, update_info: SharedMemoryUpdate) -> None:
        bytes_N = torch.from_file(_checked(update_info.path), size=update_info.size, dtype=torch.uint8)
        rows = zip(update_info.names, update_info.dtypes, update_info.shapes, update_info.offsets, strict=True)
        with torch.device(self.device):
            self.model.load_weights([(name, _view(bytes_N, dtype, shape, at)) for name, dtype, shape, at in rows])


def _checked(path: str) -> str:
    """Anyone who reaches the port can name a file: accept only what r1rl itself wrote."""
    real = Path(path).resolve()
    if real.parent.parent not in (Path(SHM), Path(tempfile.gettempdir())) or not real.parent.name.startswith(PREFIX):
        raise ValueError(f"{path} is not a weights file of r1rl")
    return str(real)


def _view(bytes_N: torch.Tensor, dtype: str, shape: list[int], offset: int) -> torch.Tensor:
    kind = getattr(torch, dtype)
    count = kind.itemsize
    for extent in shape:
        count *= extent
    return bytes_N[offset : offset + count].view(kind).view(shape)

"""Lets vLLM's GPU wheel run without a GPU: stand-ins for its compiled modules, for CUDA memory and for NCCL.

vLLM's Python code is the wheel's own: configuration, parser, weight transfer senders and receivers, layer-wise reload.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

WHEEL = os.environ.get("R1RL_VLLM_GPU", "")
needs_wheel = pytest.mark.skipif(not WHEEL, reason="needs vLLM's GPU wheel, unpacked: make test-vllm-gpu-api")

COMPILED = (
    "vllm._C_stable_libtorch",
    "vllm._moe_C_stable_libtorch",
    "vllm.cumem_allocator",
    "vllm.vllm_flash_attn._vllm_fa2_C",
    "vllm.vllm_flash_attn._vllm_fa3_C",
)
GPUS = 8


class Operators:
    """``torch.ops._C``: of the compiled operators only those that are asked at import, which say no."""

    def __getattr__(self, name: str) -> Callable[..., bool]:
        if "supports" not in name:
            raise AttributeError(name)
        return _no


def _no(*_: object) -> bool:
    return False


def pretend_cuda() -> None:
    """Make vLLM believe in a host of eight H100. For the rest of the process: vLLM decides much at import."""
    for name in COMPILED:
        sys.modules.setdefault(name, ModuleType(name))
    torch.ops._C = torch.ops._moe_C = Operators()  # type: ignore[assignment]
    import vllm.platforms
    from vllm.platforms.cuda import CudaPlatformBase
    from vllm.platforms.interface import DeviceCapability

    assert str(vllm.platforms.__file__).startswith(WHEEL), "another vLLM is imported than the wheel's"

    class Host(CudaPlatformBase):  # type: ignore[misc]
        @classmethod
        def get_device_capability(cls, device_id: int = 0) -> Any:
            return DeviceCapability(9, 0)

        @classmethod
        def get_device_name(cls, device_id: int = 0) -> str:
            return "NVIDIA H100 80GB HBM3"

        @classmethod
        def get_device_uuid(cls, device_id: int = 0) -> str:
            return f"GPU-{device_id}"

        @classmethod
        def get_device_total_memory(cls, device_id: int = 0) -> int:
            return 80 << 30

        @classmethod
        def is_fully_connected(cls, physical_device_ids: list[int]) -> bool:
            return True

        @classmethod
        def device_count(cls) -> int:
            return GPUS

        @classmethod
        def log_warnings(cls) -> None: ...

        def is_cumem_allocator_available(self) -> bool:
            return True

    vllm.platforms._current_platform = Host()


class Memory:
    """CUDA IPC within this process: a handle leads to the very tensor it was made of."""

    def __init__(self, device: int) -> None:
        self.device = device
        self.exported: list[torch.Tensor] = []

    def reduce(self, tensor: torch.Tensor) -> tuple[None, tuple[Any, ...]]:
        self.exported.append(tensor)
        return None, (len(self.exported) - 1, None, None, None, None, None, self.device)

    def rebuild(self, *handle: Any) -> torch.Tensor:
        assert handle[6] == self.device, "rebuilt on another device than the model's"
        return self.exported[handle[0]]


class Stream:
    def __init__(self, **_: Any) -> None: ...

    def synchronize(self) -> None: ...


class Communicator:
    """``PyNcclCommunicator`` over the store of vLLM's own rendezvous. Like NCCL's it works once all have joined."""

    def __init__(self, group: Any, device: Any) -> None:
        self.group, self.disabled = group, False
        group.broadcast_obj("joined", src=0)

    def broadcast(self, tensor: torch.Tensor, src: int, stream: Any = None) -> None:
        assert not self.disabled
        sends = self.group.rank == src
        raw = self.group.broadcast_obj(tensor.view(-1).view(torch.uint8).numpy() if sends else None, src=src)
        if not sends:
            tensor.view(-1).view(torch.uint8).copy_(torch.from_numpy(raw.copy()))

    def destroy(self) -> None:
        self.disabled = True


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    """torch as on the GPU of index 3: tensors "on cuda" are on the CPU, streams do nothing."""
    pretend_cuda()
    from vllm.distributed.device_communicators import pynccl
    from vllm.distributed.weight_transfer import ipc_engine, packed_tensor

    memory, empty = Memory(3), torch.empty

    def allocate(*size: Any, device: Any = None, **rest: Any) -> torch.Tensor:
        return empty(*size, device="cpu" if str(device).startswith("cuda") else device, **rest)

    monkeypatch.setattr(torch, "empty", allocate)
    for name, value in {
        "current_stream": Stream,
        "Stream": Stream,
        "stream": nullcontext,
        "ipc_collect": Stream().synchronize,
        "get_device_properties": lambda index: SimpleNamespace(uuid=f"GPU-{index}"),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: memory.device)
    monkeypatch.setattr(torch.accelerator, "synchronize", Stream().synchronize)
    for module in (ipc_engine, packed_tensor):
        monkeypatch.setattr(module, "reduce_tensor", memory.reduce)
    monkeypatch.setattr(ipc_engine, "rebuild_cuda_tensor", memory.rebuild)
    monkeypatch.setattr("torch.multiprocessing.reductions.rebuild_cuda_tensor", memory.rebuild)
    monkeypatch.setattr(pynccl, "PyNcclCommunicator", Communicator)
    packed_tensor._get_streams.cache_clear()
    yield memory
    packed_tensor._get_streams.cache_clear()


class Served(nn.Module):
    """A model as vLLM's workers hold it: loaded through each parameter's ``weight_loader``, reloaded layer by layer."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner = model.to(dtype)
        with torch.no_grad():
            for parameter in self.inner.parameters():
                parameter.zero_()

    def load_weights(self, weights: Any) -> None:
        from vllm.model_executor.model_loader.weight_utils import default_weight_loader

        for name, tensor in weights:
            parameter = self.inner.get_parameter(name)
            getattr(parameter, "weight_loader", default_weight_loader)(parameter, tensor)


class GpuServer:
    """Controls of an engine of several GPUs, each of whose workers runs the wheel's receiving side.

    Args:
        receiver: the worker's ``WeightTransferEngine``.
        device: what the worker believes its device to be.
    """

    def __init__(self, receiver: type, models: Sequence[Served], device: torch.device, backend: str) -> None:
        from vllm.config.weight_transfer import WeightTransferConfig
        from vllm.model_executor.model_loader.reload import record_metadata_for_reloading

        self.models, self.version, self.joined = list(models), "", 0
        self.engines = []
        for rank, model in enumerate(models):
            record_metadata_for_reloading(model)
            parallel = SimpleNamespace(data_parallel_index=0, world_size=len(models), rank=rank)
            config = SimpleNamespace(parallel_config=parallel, model_config=SimpleNamespace(dtype=torch.bfloat16))
            self.engines.append(receiver(WeightTransferConfig(backend), config, device, model))
        self.lock = threading.Lock()

    def workers(self) -> int:
        return len(self.engines)

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self.joined += 1
        self._all(lambda engine: engine.shutdown())
        self._all(lambda engine: engine.init_transfer_engine(engine.parse_init_info(init_info)))

    def start_weight_update(self) -> None:
        for engine in self.engines:
            engine.start_weight_update()

    def update_weights(self, update_info: Any) -> None:
        self._all(lambda engine: engine.update_weights(update_info))

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        for engine in self.engines:
            engine.finish_weight_update()
        self.version = weight_version or self.version

    def holds(self, weights: dict[str, torch.Tensor]) -> bool:
        return all(
            torch.equal(model.inner.get_parameter(name), tensor)
            for model in self.models
            for name, tensor in weights.items()
        )

    def _all(self, call: Callable[[Any], None]) -> None:
        with ThreadPoolExecutor(len(self.engines)) as threads:
            list(threads.map(call, self.engines))

"""A GPU on paper: operations on ``cuda`` tensors are checked for shape and dtype and counted, but not computed.

Tensors on the CPU stay real, so code runs as it would beside a GPU up to the first value that it reads back; every such
read is counted and gives zeros. Kernels without an implementation for shapes alone raise.
"""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

CUDA = torch.device("cuda", 0)

_aten = torch.ops.aten
_FREE = {
    _aten.detach.default, _aten.empty.memory_format, _aten.empty_like.default, _aten.empty_strided.default,
    _aten.new_empty.default, _aten.new_empty_strided.default, _aten._unsafe_view.default, _aten.lift_fresh.default,
    _aten._reshape_alias.default, _aten.is_pinned.default,
    torch.ops.prim.device.default,
}  # fmt: skip
"""Operations that are neither views nor launch a kernel."""
_SIZES_FROM_VALUES = {_aten.nonzero.default, _aten.masked_select.default, _aten._unique2.default}
_READ = _aten._local_scalar_dense.default
_COPY = _aten._to_copy.default
_PIN = _aten._pin_memory.default


class PaperGPU(TorchDispatchMode):
    """Counts what code on a GPU would launch, and where the host would wait for it.

    Attributes:
        launches: operations by name, views and allocations left out; a fused or multi-tensor operation counts once.
        syncs: host synchronisations by name: values read, sizes that depend on values, and copies between host and
            device, except those of pinned memory with ``non_blocking``.
        uploads: copies to the device that do not wait.
        dtypes: of the tensors that each operation got, by its name.
    """

    def __init__(self, fake: FakeTensorMode) -> None:
        super().__init__()
        self.fake = fake
        self.pinned: set[int] = set()
        self.clear()

    def clear(self) -> None:
        self.launches: Counter[str] = Counter()
        self.syncs: Counter[str] = Counter()
        self.uploads = 0
        self.dtypes: dict[str, list[tuple[torch.dtype, ...]]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
        on_gpu = any(isinstance(x, FakeTensor) for x in tensors)
        if func is _PIN and not on_gpu:
            self.pinned.add(id(args[0]))
            return args[0]
        if not on_gpu and torch.device(kwargs.get("device") or "cpu").type == "cpu":
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        return self._on_gpu(func, args, kwargs, tensors)

    def _on_gpu(self, func: Any, args: Any, kwargs: Any, tensors: list[torch.Tensor]) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if func is _READ:
            self.syncs[name] += 1
            return {torch.bool: False}.get(args[0].dtype, 0.0 if args[0].is_floating_point() else 0)
        target = kwargs.get("device")
        if func is _COPY and target is not None and torch.device(target).type == "cpu":
            self.syncs["copy to host"] += 1
            with unset_fake_temporarily():
                return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        if func in _SIZES_FROM_VALUES or (func is _aten.index.Tensor and _masked(args[1])):
            self.syncs[name] += 1
        self._uploaded(func, args, kwargs)
        if not _is_view(func) and func not in _FREE:
            self.launches[name] += 1
            self.dtypes.setdefault(name, []).append(tuple(x.dtype for x in tensors))
        return func(*tree_map(self._faked, args), **tree_map(self._faked, kwargs))

    def _uploaded(self, func: Any, args: Any, kwargs: Any) -> None:
        inputs = args[1:2] if func is _aten.copy_.default else args[:1]
        source = next((x for x in inputs if isinstance(x, torch.Tensor) and not isinstance(x, FakeTensor)), None)
        if source is None or func not in (_COPY, _aten.copy_.default):
            return
        waits = not (kwargs.get("non_blocking") or (len(args) > 2 and args[2] is True)) or id(source) not in self.pinned
        if waits:
            self.syncs["copy to device"] += 1
        else:
            self.uploads += 1

    def _faked(self, x: Any) -> Any:
        real = isinstance(x, torch.Tensor) and not isinstance(x, FakeTensor)
        return self.fake.from_tensor(x) if real else x


def _masked(indices: Any) -> bool:
    return any(isinstance(x, torch.Tensor) and x.dtype in (torch.bool, torch.uint8) for x in indices)


def _is_view(func: Any) -> bool:
    return any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)


SHIM = """
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <new>
struct Guard : c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA> {
  c10::Stream getStream(c10::Device) const noexcept override {
    return c10::Stream(c10::Stream::DEFAULT, c10::Device(c10::DeviceType::CUDA, 0));
  }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
};
static c10::impl::DeviceGuardImplRegistrar registrar(c10::DeviceType::CUDA, new Guard());
struct Hooks : at::CUDAHooksInterface {
  bool isBuilt() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return false; }
};
extern "C" void pretend(bool present) {
  void* hooks = const_cast<at::CUDAHooksInterface*>(&at::detail::getCUDAHooks());
  if (present) new (hooks) Hooks(); else new (hooks) at::CUDAHooksInterface();
}
"""
"""Where there is no GPU, torch's CUDA builds handle fake tensors with a guard that does nothing; its CPU builds have
none. The hooks, which the autograd engine asks, are exchanged only inside :func:`paper_gpu`."""


@cache
def _shim() -> ctypes.CDLL | None:
    """Compiled once per process; skips the test where there is no compiler."""
    if torch.backends.cuda.is_built():
        return None
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("fake CUDA tensors on torch's CPU build need a C++ compiler (g++)")
    root = Path(torch.__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "shim.cpp"), Path(folder, "shim.so")
        source.write_text(SHIM)
        flags = ["-std=c++20", "-shared", "-fPIC", "-O1", f"-I{root / 'include'}"]
        linked = [f"-L{root / 'lib'}", "-lc10", "-ltorch_cpu"]
        subprocess.run([compiler, *flags, source, "-o", library, *linked], check=True, capture_output=True)
        return ctypes.CDLL(str(library))


@contextlib.contextmanager
def _pretending() -> Iterator[None]:
    shim = _shim()
    if shim is None:
        yield
        return
    shim.pretend(True)
    try:
        yield
    finally:
        shim.pretend(False)


@contextlib.contextmanager
def paper_gpu() -> Iterator[PaperGPU]:
    """``cuda:0`` without a GPU inside the block, autocast included."""
    one_thread = torch.autograd.set_multithreading_enabled(False)  # the engine has no thread for the device
    with _pretending(), one_thread, pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.cuda.amp.common.amp_definitely_not_available", bool)
        patch.setattr("torch.cuda.is_bf16_supported", lambda *_: True)
        with FakeTensorMode(allow_non_fake_inputs=True) as fake, PaperGPU(fake) as gpu:
            yield gpu


def on_paper(model: torch.nn.Module) -> torch.nn.Module:
    """Move a model's parameters and buffers to the paper GPU, inside :func:`paper_gpu`."""
    moved: dict[int, torch.nn.Parameter] = {}  # tied parameters stay one
    for module in model.modules():
        for name, p in module._parameters.items():
            if p is not None:
                new = torch.nn.Parameter(p.detach().to(CUDA), p.requires_grad)
                module._parameters[name] = moved.setdefault(id(p), new)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.to(CUDA)
    return model

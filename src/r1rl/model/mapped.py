"""Opens a checkpoint with its weights still in the files: memory-mapped, in the dtype in which they are stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.hub import cached_file

from r1rl.config.model import ModelConfig

_HALVES = {"BF16": torch.bfloat16, "F16": torch.float16}


def open_mapped(auto: Any, cfg: ModelConfig, **settings: Any) -> PreTrainedModel:
    """The model of ``cfg.path`` on the CPU, every weight exactly as it is stored.

    transformers maps safetensors files and copies only what it has to convert. In half precision that is nothing, but
    for architectures whose weights it merges while loading (the experts of most mixtures): those are copied into this
    process's memory. Files that mix precisions, quantized ones and those of ``torch.save`` are loaded as float32.

    Args:
        auto: one of transformers' Auto classes.
        settings: for its ``from_pretrained``.
    """
    stored = dict(_stored(cfg))
    dtypes = {_HALVES.get(kind, torch.float32) for kind in stored.values() if "F" in kind and kind != "F32"}
    half = dtypes.pop() if len(dtypes) == 1 else torch.float32
    model = _open(auto, cfg, half, settings)
    if half is torch.float32:
        return model
    wider = [name for name, kind in stored.items() if kind == "F32"]
    if not all(_dtype(model, name) is torch.float32 for name in wider):  # these were rounded
        return _open(auto, cfg, torch.float32, settings)
    _restore_constants(model)
    return model


def _open(auto: Any, cfg: ModelConfig, dtype: torch.dtype, settings: dict[str, Any]) -> PreTrainedModel:
    model: PreTrainedModel = auto.from_pretrained(
        cfg.path, revision=cfg.revision, trust_remote_code=cfg.trust_remote_code, dtype=dtype, **settings
    )
    model.config.dtype = torch.float32  # what is learned, and saved, whatever was opened
    return model


def _stored(cfg: ModelConfig) -> Iterator[tuple[str, str]]:
    """Name and dtype, as safetensors writes it, of every tensor of the checkpoint; nothing for other formats."""
    for path in _files(cfg):
        with safe_open(path, framework="pt") as file:
            yield from ((name, file.get_slice(name).get_dtype()) for name in file.keys())  # noqa: SIM118


def _files(cfg: ModelConfig) -> list[Path]:
    single = _find(cfg, SAFE_WEIGHTS_NAME)
    if single is not None:
        return [single]
    index = _find(cfg, SAFE_WEIGHTS_INDEX_NAME)
    names = sorted(set(json.loads(index.read_text())["weight_map"].values())) if index else []
    found = [_find(cfg, name) for name in names]
    return [path for path in found if path is not None]


def _find(cfg: ModelConfig, name: str) -> Path | None:
    found = cached_file(
        cfg.path,
        name,
        revision=cfg.revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return Path(found) if found else None


def _dtype(model: nn.Module, name: str) -> torch.dtype | None:
    owner, _, last = name.rpartition(".")
    try:
        tensor = getattr(model.get_submodule(owner), last)
    except AttributeError:  # renamed while loading
        return None
    return tensor.dtype if isinstance(tensor, torch.Tensor) else None


def _restore_constants(model: PreTrainedModel) -> None:
    """Buffers that a model computes from its configuration, such as Gemma's embedding scale, are rounded where the
    model is opened in half precision; take those of a float32 model without weights."""
    with init_empty_weights(include_buffers=False):
        exact = type(model)(model.config)
    for here, there in zip(model.modules(), exact.modules(), strict=True):
        for name in here._non_persistent_buffers_set:
            here._buffers[name] = there._buffers[name]

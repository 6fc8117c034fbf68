"""Low-rank adapters (LoRA, arXiv 2106.09685) inside a transformers model, through peft."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from r1rl.config.model import LoraConfig
from r1rl.errors import ModelError

_BASE = ".base_layer"


def add_adapters(model: PreTrainedModel, cfg: LoraConfig) -> None:
    """Freeze ``model`` and give it trainable float32 adapters; it computes the same function until they are trained.

    Raises:
        ModelError: peft is not installed, or no layer has one of the names in ``target_modules``.
    """
    peft = _peft()
    config = peft.LoraConfig(
        r=cfg.rank,
        lora_alpha=cfg.alpha,
        lora_dropout=cfg.dropout,
        target_modules=cfg.target_modules,
        task_type="CAUSAL_LM",
    )
    try:
        model.add_adapter(config)
    except ValueError as error:
        raise ModelError(f"model.lora.target_modules: {str(error).splitlines()[0]}") from error


def adapted(model: nn.Module) -> bool:
    """Whether the model has adapters."""
    return bool(getattr(model, "_hf_peft_config_loaded", False))


@contextlib.contextmanager
def adapters_off(model: Any) -> Iterator[None]:
    """The base model's function inside."""
    model.disable_adapters()
    try:
        yield
    finally:
        model.enable_adapters()


@torch.no_grad()
def merged(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The weights of the plain model that computes the same function, by the plain model's names, one at a time."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, BaseTunerLayer)}
    for name, value in model.named_parameters():
        owner, base, rest = name.rpartition(_BASE + ".")
        if base and owner in layers:
            layer: Any = layers[owner]
            delta = sum(layer.get_delta_weight(a) for a in layer.active_adapters) if rest == "weight" else 0
            yield f"{owner}.{rest}", value + delta
        elif not any(name.startswith(f"{owner}.lora_") for owner in layers):
            yield name, value.detach()


def quantization(cfg: LoraConfig | None) -> Any:
    """transformers' settings for QLoRA (arXiv 2305.14314), None without it. Not proven: it needs CUDA.

    Raises:
        ModelError: no CUDA, or bitsandbytes is not installed.
    """
    if cfg is None or not cfg.quantize:
        return None
    if not torch.cuda.is_available():
        raise ModelError("model.lora.quantize: bitsandbytes' 4-bit layers need CUDA; leave it off on this machine")
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise ModelError("model.lora.quantize needs bitsandbytes: pip install bitsandbytes") from error
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ModelError("model.lora needs peft: pip install 'r1rl[lora]'") from error
    return peft

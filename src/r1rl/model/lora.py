"""Low-rank adapters (LoRA, arXiv 2106.09685) inside a transformers model, through peft."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from r1rl.config.model import LoraConfig
from r1rl.errors import ModelError, first_line
from r1rl.model.state import named_state

_BASE = ".base_layer"


def add_adapters(model: PreTrainedModel, cfg: LoraConfig, seed: int) -> None:
    """Freeze ``model`` and add trainable float32 adapters; until they are trained it computes the same function.

    Args:
        seed: of the random first factor; the second one is initialised to 0.

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
        with torch.random.fork_rng(), _seen_as_float32(model):
            torch.manual_seed(seed)
            model.add_adapter(config)
    except ValueError as error:
        raise ModelError(f"model.lora.target_modules: {first_line(error)}") from error


@contextlib.contextmanager
def _seen_as_float32(model: nn.Module) -> Iterator[None]:
    """Inside the block weights of half precision, as a memory-mapped model has, look like float32 weights, and so the
    adapters that peft adds to them are float32: it only reads shapes, dtypes and devices."""
    halves = [(p, p.data) for p in model.parameters() if p.dtype in (torch.bfloat16, torch.float16)]
    for parameter, data in halves:
        parameter.data = torch.zeros((), device=data.device).expand(data.shape)
    try:
        yield
    finally:
        for parameter, data in halves:
            parameter.data = data


def adapted(model: nn.Module) -> bool:
    """Whether the model has adapters."""
    return bool(getattr(model, "_hf_peft_config_loaded", False))


@contextlib.contextmanager
def adapters_off(model: Any) -> Iterator[None]:
    """Disables the adapters inside the block."""
    model.disable_adapters()
    try:
        yield
    finally:
        model.enable_adapters()


@torch.no_grad()
def merged(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Weights and persistent buffers with the adapters merged in, under the plain model's names, one at a time."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, BaseTunerLayer)}
    for name, value in named_state(model):
        owner, base, rest = name.rpartition(_BASE + ".")
        if any(name.startswith(f"{layer_name}.lora_") for layer_name in layers):
            continue
        if base and owner in layers and isinstance(value, nn.Parameter):
            layer: Any = layers[owner]
            delta = sum(layer.get_delta_weight(a) for a in layer.active_adapters) if rest == "weight" else 0
            yield f"{owner}.{rest}", _plain(layer, value) + delta
        else:
            yield plain_name(name), value.detach()


def plain_name(name: str) -> str:
    """A tensor's name in the model without adapters."""
    return name.replace(_BASE + ".", ".")


def _plain(layer: Any, value: Tensor) -> Tensor:
    """A base layer's weight or bias, dequantized if it is stored in 4 bits."""
    if value.is_floating_point():
        return value
    from peft.utils.integrations import dequantize_module_weight

    return dequantize_module_weight(layer.get_base_layer())


def quantization(cfg: LoraConfig | None, compute: torch.dtype) -> Any:
    """transformers' settings for QLoRA (arXiv 2305.14314), or None.

    Args:
        compute: dtype of the matrix products with the 4-bit weights.

    Raises:
        ModelError: bitsandbytes is not installed.
    """
    if cfg is None or not cfg.quantize:
        return None
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError("model.lora.quantize needs bitsandbytes: pip install bitsandbytes, or leave it off")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


def keep_layout(model: nn.Module) -> None:
    """Keep bitsandbytes from converting 4-bit weights to another layout when a CPU first samples with them: it cannot
    compute gradients through that layout, nor can the weights be merged from it."""
    layer: Any
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ModelError("model.lora needs peft: pip install 'r1rl[lora]'") from error
    return peft

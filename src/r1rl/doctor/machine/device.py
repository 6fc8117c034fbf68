"""The device that is checked, and random models on it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen2Config

from r1rl.distributed.processor import has_bfloat16
from r1rl.doctor.machine.findings import NotTried
from r1rl.doctor.memory import Shape
from r1rl.model.attention import register
from r1rl.model.load import Policy, end_turns
from r1rl.stages.pretrain import build_tokenizer, documents

SIZES = {
    "0.5B": (896, 24, 14, 2, 64, 4864, 151_936),
    "1.5B": (1536, 28, 12, 2, 128, 8960, 151_936),
    "6M": (256, 6, 4, 2, 64, 704, 4096),
    "25M": (512, 8, 8, 2, 64, 1408, 8192),
    "tiny": (128, 2, 4, 2, 32, 256, 512),
}
"""hidden, layers, heads, key-value heads, head width, intermediate and vocabulary: Qwen2.5-0.5B and 1.5B, and smaller
models for CPUs. Embeddings are tied."""


def device() -> torch.device:
    """The first GPU, or the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def on_gpu() -> bool:
    return device().type == "cuda"


def dtypes() -> list[torch.dtype]:
    """The precisions of ``model.dtype``, most exact first."""
    return [torch.float32, torch.bfloat16]


def working_dtype() -> str:
    """The precision of ``model.dtype`` to train in here: bfloat16 wherever it is not emulated."""
    return "bfloat16" if on_gpu() or has_bfloat16() else "float32"


def gpus(count: int, what: str) -> None:
    """Raises NotTried where there are fewer GPUs; ``what`` needs them."""
    found = torch.cuda.device_count()
    if found < count:
        raise NotTried(f"{what} needs {count} GPU{'s' if count > 1 else ''}; torch finds {found}")


def shape(size: str) -> Shape:
    """The sizes of a model by its name in :data:`SIZES`."""
    return Shape.of(*SIZES[size], True)


def random_policy(size: str, seed: int = 0) -> Policy:
    """A model of that size with random float32 weights, with the tokenizer of the generated corpora."""
    hidden, layers, heads, kv_heads, _, intermediate, vocabulary = SIZES[size]
    tokenizer = build_tokenizer(documents("arithmetic", seed=-1), 500)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        initializer_range=hidden**-0.5,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    with device():
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation=register())
    end_turns(model, tokenizer)
    return Policy(model.float(), tokenizer)


def saved(policy: Policy) -> Path:
    """The policy in a new folder of the check's own."""
    folder = Path(tempfile.mkdtemp(prefix="model-"))
    policy.save(folder)
    return folder


def without_end(policy: Policy) -> Policy:
    """The policy, for which no token ends a completion: all of them reach the length limit."""
    assert policy.model.generation_config is not None
    policy.model.generation_config.eos_token_id = None
    policy.tokenizer.eos_token = None
    return policy


@torch.no_grad()
def change(policy: Policy, size: float, seed: int) -> None:
    """Add noise of standard deviation ``size`` to every weight, as an update would."""
    torch.manual_seed(seed)
    for parameter in policy.model.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=size)


def synchronize() -> None:
    """Wait for the device, for timings."""
    if on_gpu():
        torch.cuda.synchronize()

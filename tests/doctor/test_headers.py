"""What the comments of the shipped configurations promise of memory is what ``r1rl doctor`` prints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from r1rl.config import load_config, stages_of
from r1rl.doctor.commands import doctor
from r1rl.doctor.memory import MIXED_BYTES
from r1rl.model.attention import NAME, register
from r1rl.model.forward import PackedTokens, PolicyForward

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*/*.yaml"))
PROMISE = re.compile(r"`r1rl doctor CONFIG --gpus N --gpu-memory (\d+)` says for 1, 8 and 64 GPUs:")
LINE = re.compile(r"^  +(\d+) GPUs?: .* GiB$")
"""Of a promise: what the doctor's last line says for a number of GPUs, word for word."""
CLAIM = re.compile(r"[\d.]+ ?Gi?B\b")
SIZES = {
    "Qwen/Qwen2.5-0.5B": (896, 4864, 24, 14, 2, 151_936, True),
    "Qwen/Qwen2.5-1.5B": (1536, 8960, 28, 12, 2, 151_936, True),
    "Qwen/Qwen2.5-Coder-1.5B": (1536, 8960, 28, 12, 2, 151_936, True),
    "Qwen/Qwen2.5-3B": (2048, 11_008, 36, 16, 2, 151_936, True),
    "Qwen/Qwen2.5-7B": (3584, 18_944, 28, 28, 4, 152_064, False),
}
"""By model, as on the hub: hidden and intermediate size, layers, heads, key-value heads, vocabulary, tied or not."""


def qwen(path: str, **_: Any) -> transformers.Qwen2Config:
    hidden, intermediate, layers, heads, kv_heads, vocabulary, tied = SIZES[path]
    return transformers.Qwen2Config(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
    )


def comments(config: Path) -> list[str]:
    return [line.partition("#")[2] for line in config.read_text(encoding="utf-8").splitlines() if "#" in line]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_promise_is_what_the_doctor_says(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Processes, engines, micro-batches and memory on 1, 8 and 64 GPUs; a preset is made for one that fits."""
    said = comments(config)
    lines = {int(found[1]): line.strip() for line in said if (found := LINE.match(line))}
    text = " ".join(line for line in said if not LINE.match(line))
    assert not CLAIM.findall(text), "give memory in the doctor's words, so that it is tested"
    trains = any(stage.kind == "grpo" for stage in stages_of(load_config(config)).values())
    promises = PROMISE.findall(text)
    assert len(promises) == (trains and "Qwen" in str(load_config(config).model.path)), "one, of what needs a GPU"
    assert set(lines) == ({1, 8, 64} if promises else set())
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", qwen)
    for gpus, promised in lines.items():
        doctor(config, [], gpus=gpus, gpu_memory=float(promises[0]))
        answered = " ".join(capsys.readouterr().out.split())
        now = answered[answered.rindex(f"{gpus} GPU{'s' if gpus > 1 else ''}: ") :]
        assert now.startswith(promised), f"write: {now}"
    assert not lines or any(": fits; " in promised for promised in lines.values())


def test_pages_and_launch_files_promise_nothing_of_their_own() -> None:
    pages = [
        ROOT / "README.md",
        *(ROOT / "docs").glob("*.md"),
        *(p for p in (ROOT / "launch").rglob("*") if p.is_file()),
    ]
    for page in pages:
        for line in page.read_text(encoding="utf-8").splitlines():
            assert not (CLAIM.search(line) and "configs/" in line and "doctor" not in line), f"{page}: {line}"


def saved_bytes(layers: int, tokens: int, checkpointing: bool) -> int:
    """Bytes that a forward pass of float32 weights working in bfloat16 keeps for its backward pass."""
    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        hidden_size=128,
        intermediate_size=640,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=128,
    )
    register()
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=NAME).train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, tuple[int, torch.Tensor]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # the tensor too, or its address is used again
        return tensor

    packed = PackedTokens.build([[token % 128 for token in range(tokens)]], [1], torch.device("cpu"))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        PolicyForward(model, 1.0, 64, torch.bfloat16)(packed)
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_of_mixed_precision(checkpointing: bool) -> None:
    def at(tokens: int) -> int:
        return saved_bytes(3, tokens, checkpointing) - saved_bytes(1, tokens, checkpointing)

    measured = (at(192) - at(64)) / 128 / 2
    values = 8 * 128 + 2 * (4 + 2) * 32 + 4 * 640
    assert measured == pytest.approx(4 * 128 if checkpointing else MIXED_BYTES * values, rel=0.1)

"""Weights that stay in the checkpoint's files until they are placed, and what is computed with them there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from r1rl.config import ModelConfig
from r1rl.model import load as loading
from r1rl.model.load import Policy, load_model, load_policy
from r1rl.model.place import hollow, largest_block, layers, place, streamed
from tests.support.architectures import tiny

CPU = torch.device("cpu")


def stored(model: nn.Module, folder: Path, dtype: torch.dtype) -> Path:
    """A checkpoint of ``model`` in ``dtype``; transformers' own files but for the dtype."""
    model.save_pretrained(folder)
    file = folder / "model.safetensors"
    save_file({k: v.to(dtype) for k, v in load_file(file).items()}, file, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("kind", ["qwen2", "gemma", "deepseek_v3", "mixtral"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_opened_as_it_is_stored_is_the_one_opened_in_float32(kind, dtype, tmp_path: Path) -> None:
    folder = stored(tiny(kind), tmp_path, dtype)
    found = load_model(ModelConfig(path=str(folder)), CPU)
    expected = type(found).from_pretrained(folder, dtype=torch.float32)
    assert found.config.dtype is torch.float32
    for (name, here), (_, there) in zip(
        [*found.named_parameters(), *found.named_buffers()],
        [*expected.named_parameters(), *expected.named_buffers()],
        strict=True,
    ):
        assert here.dtype == there.dtype, name
        assert torch.equal(here, there), name


@pytest.mark.parametrize("kind", ["qwen2", "deepseek_v3"])
def test_a_mapped_model_keeps_what_is_stored(kind, tmp_path: Path) -> None:
    folder = stored(tiny(kind), tmp_path, torch.bfloat16)
    model = load_model(ModelConfig(path=str(folder)), CPU, mapped=True)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert {b.dtype for b in model.buffers()} == {torch.float32}
    whole = load_model(ModelConfig(path=str(folder)), CPU)
    place(model, CPU, torch.float32)
    for (name, here), (_, there) in zip(model.named_parameters(), whole.named_parameters(), strict=True):
        assert torch.equal(here, there), name


def test_a_float32_tensor_among_halves_is_not_rounded(tmp_path: Path) -> None:
    folder = stored(tiny("qwen2"), tmp_path, torch.bfloat16)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["model.norm.weight"] = torch.full_like(tensors["model.norm.weight"], 1.00001, dtype=torch.float32)
    save_file(tensors, file, metadata={"format": "pt"})
    model = load_model(ModelConfig(path=str(folder)), CPU, mapped=True)
    assert torch.equal(model.get_parameter("model.norm.weight"), tensors["model.norm.weight"])


def test_the_architecture_of_a_mapped_model_is_checked_in_float32(tmp_path: Path, monkeypatch) -> None:
    folder = stored(tiny("qwen2"), tmp_path, torch.bfloat16)
    seen = []

    def check(model: nn.Module, device: torch.device) -> None:
        hook = model.model.layers[0].mlp.register_forward_hook(lambda m, _, out: seen.append((m, out.dtype)))
        seen.append(model(torch.arange(4)[None], position_ids=torch.arange(4)[None]).logits.dtype)
        hook.remove()

    monkeypatch.setattr(loading, "check_architecture", check)
    monkeypatch.setattr(loading, "register", lambda: "eager")
    model = load_model(ModelConfig(path=str(folder)), CPU, mapped=True)
    assert seen[0][1] is seen[1] is torch.float32
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_a_layer_that_fails_gets_its_weights_back(tmp_path: Path) -> None:
    model = load_model(ModelConfig(path=str(stored(tiny("qwen2"), tmp_path, torch.bfloat16))), CPU, mapped=True)
    before = {name: p.data_ptr() for name, p in model.named_parameters()}
    with pytest.raises(IndexError), streamed(model, CPU):
        model.model(torch.tensor([[10**6]]))
    assert {name: p.data_ptr() for name, p in model.named_parameters()} == before


def test_layers_are_what_is_computed_in_turn() -> None:
    model = tiny("qwen2")
    names = {id(m): name for name, m in model.named_modules()}
    assert [names[id(m)] for m in layers(model)] == [
        "model.embed_tokens", "model.layers.0", "model.layers.1", "model.norm", "model.rotary_emb", "lm_head",
    ]  # fmt: skip
    assert largest_block(model) == sum(p.numel() for p in model.model.layers[0].parameters())


@pytest.mark.parametrize("kind", ["qwen2", "gemma"])
def test_a_hollow_model_filled_computes_the_same(kind) -> None:
    model = tiny(kind).eval()
    model.set_attn_implementation("eager")
    other = hollow(model, CPU, torch.float32).eval()
    with torch.no_grad():
        for here, there in zip(other.parameters(), model.parameters(), strict=True):
            here.copy_(there)
        ids = torch.arange(8)[None]
        assert torch.equal(other(ids).logits, model(ids).logits)
    assert not any(p.requires_grad for p in other.parameters())


def test_adapters_on_a_mapped_model_are_those_on_a_placed_one(tiny_policy: Policy, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    tiny_policy.save(tmp_path)
    stored(tiny_policy.model, tmp_path, torch.bfloat16)
    cfg = ModelConfig(path=str(tmp_path), lora={"rank": 2})
    mapped, placed = load_policy(cfg, CPU, mapped=True).model, load_policy(cfg, CPU).model
    for (name, here), (_, there) in zip(mapped.named_parameters(), placed.named_parameters(), strict=True):
        assert here.dtype == (torch.float32 if ".lora_" in name else torch.bfloat16), name
        assert torch.equal(here.float(), there), name

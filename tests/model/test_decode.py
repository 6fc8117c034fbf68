"""The fused decoding pass against the model's own modules."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from r1rl.model.attention import positions, register
from r1rl.model.decode import ARCHITECTURES, fused_body
from r1rl.rollout.kv import Prefill, Slots

SHAPE = {
    "vocab_size": 50,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "sliding_window": None,
    "initializer_range": 0.5,
}
LENGTHS, COPIES = (3, 7), (2, 1)


def model_of(kind: str):
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SHAPE)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=register()).eval()
    for parameter in model.parameters():  # norms of 1 and biases of 0 would hide mistakes
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def steps(model, fused: bool, autocast: bool = False) -> torch.Tensor:
    """Hidden states of two decoding steps behind two prompts, three rows."""
    body, device = model.get_decoder(), torch.device("cpu")
    outs = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        own = fused_body(model, torch.bfloat16 if autocast else None)
        slots, layout = Slots(device), Prefill(LENGTHS)
        ids = torch.arange(sum(LENGTHS))[None]
        body(input_ids=ids, position_ids=positions(LENGTHS, device), layout=layout, use_cache=False)
        slots.append(layout, COPIES)
        for step in range(2):
            ids_B, at_B, layout = torch.tensor([4, 9, 16]) + step, slots.lengths, slots.step()
            if fused:
                outs.append(own(ids_B, at_B, layout))
            else:
                passed = body(input_ids=ids_B[:, None], position_ids=at_B[:, None], layout=layout, use_cache=False)
                outs.append(passed.last_hidden_state[:, 0])
    return torch.stack(outs).float()


@pytest.mark.parametrize("kind", sorted(ARCHITECTURES))
def test_fused_equals_the_models_own_modules(kind: str) -> None:
    model = model_of(kind)
    assert torch.allclose(steps(model, True), steps(model, False), atol=2e-5)


def test_under_autocast_it_rounds_where_the_modules_do() -> None:
    model = model_of("qwen2")
    exact, own, fused = steps(model, False), steps(model, False, True), steps(model, True, True)
    assert (fused - own).abs().mean() <= 0.2 * (own - exact).abs().mean()


def test_other_layers_keep_their_own_modules() -> None:
    assert fused_body(model_of("gemma2"), None) is None
    quantized = model_of("qwen2")
    quantized.model.layers[1].mlp.up_proj = type("Linear4bit", (torch.nn.Linear,), {})(48, 80)
    assert fused_body(quantized, None) is None

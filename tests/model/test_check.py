"""Architectures are accepted where r1rl computes what they do, and refused by name and reason where it does not."""

from __future__ import annotations

import pytest
import torch
from transformers import AttentionInterface

from r1rl.errors import ModelError
from r1rl.model import attention, check
from r1rl.model.attention import NAME, Packed, positions
from r1rl.model.check import check_architecture
from tests.support.architectures import tiny

GOOD = ("deepseek_v3", "gpt_neox", "llama", "mistral", "mixtral", "olmo2", "phi3", "qwen2", "qwen3", "qwen3_moe")


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_supported(kind: str, dtype: torch.dtype) -> None:
    model = tiny(kind).to(dtype).train()
    check_architecture(model)
    assert model.training
    assert model.config._attn_implementation == NAME


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("granitemoehybrid", "GraniteMoeHybridForCausalLM has layers of type (mamba|linear_attention)"),
        ("minimax", "MiniMaxForCausalLM has layers of type linear_attention"),
        ("lfm2", "Lfm2ForCausalLM has layers of type conv"),
        ("gpt_oss", "GptOssForCausalLM has layers of type sliding_attention"),
        ("cohere", "CohereForCausalLM changes its logits after the head"),
        ("nemotron", "NemotronForCausalLM does not pass keyword arguments on"),
    ],
)
def test_refused_by_name(kind: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        check_architecture(tiny(kind))


@pytest.mark.parametrize("kind", ["granitemoehybrid", "minimax", "lfm2"])
def test_what_a_configuration_does_not_say_shows_in_the_numbers(kind: str, monkeypatch) -> None:
    monkeypatch.setattr(check, "_check_layers", lambda model: None)
    with pytest.raises(ModelError, match="lets sequences packed in one row see each other"):
        check_architecture(tiny(kind))


def test_a_state_beside_keys_and_values_shows_when_decoding(monkeypatch) -> None:
    monkeypatch.setattr(check, "_check_layers", lambda model: None)
    model = tiny("lfm2")
    whole = Packed((check.LENGTH, check.LENGTH))
    apart = torch.cat([check._logits(model, row[None], Packed((check.LENGTH,))) for row in check._tokens(model)])
    logits = check._logits
    monkeypatch.setattr(
        check, "_logits", lambda m, ids, layout, *at: apart if layout == whole else logits(m, ids, layout, *at)
    )
    with pytest.raises(ModelError, match="keeps other state as well"):
        check_architecture(model)


def test_other_attention_is_told_apart(monkeypatch) -> None:
    monkeypatch.setattr(Packed, "attend", lambda self, layer, q, k, v, scale: v.repeat_interleave(2, 1).transpose(1, 2))
    with pytest.raises(ModelError, match="computes different logits with r1rl's attention than with its own"):
        check_architecture(tiny("qwen2"))


@pytest.mark.parametrize("keyword", ["s_aux", "position_bias", "block_indices"])
def test_unknown_keywords_are_refused(keyword: str) -> None:
    """As gpt-oss hands its sinks to whatever attention it has."""
    layout = Packed((4,))
    module = tiny("qwen2").model.layers[0].self_attn
    q, kv = torch.zeros(1, 4, 4, 8), torch.zeros(1, 2, 4, 8)
    ours = AttentionInterface()[NAME]
    ours(module, q, kv, kv, None, layout=layout, dropout=0.1, use_cache=False, **{keyword: None})
    with pytest.raises(ModelError, match=rf"attention takes {keyword}, which r1rl does not support"):
        ours(module, q, kv, kv, None, layout=layout, **{keyword: torch.zeros(4)})


def test_keywords_that_models_pass_to_all_layers_are_known() -> None:
    model, layout = tiny("qwen2"), Packed((4,))
    ids = torch.arange(4)[None]
    kept = {"output_attentions": True, "num_items_in_batch": torch.tensor(3), "cu_seq_lens_q": torch.tensor([0, 4])}
    model.model(input_ids=ids, position_ids=positions((4,), ids.device), layout=layout, use_cache=False, **kept)


@pytest.mark.parametrize(
    ("keywords", "reason"),
    [
        ({"is_causal": False}, "is not causal"),
        ({"softcap": 30.0}, "soft-capped"),
        ({"sliding_window": 8}, "sliding-window"),
    ],
)
def test_known_keywords_that_are_not_supported(keywords, reason) -> None:
    q = torch.zeros(1, 1, 4, 8)
    with pytest.raises(ModelError, match=reason):
        attention._attention(torch.nn.Identity(), q, q, q, None, layout=Packed((4,)), **keywords)

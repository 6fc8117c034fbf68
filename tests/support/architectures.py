"""Tiny models of many architectures, with random weights."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from r1rl.model.attention import register

SHAPE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "initializer_range": 0.2,  # of 0.02, what one token says to another drowns in what each says alone
}
_MOE = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
_MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_expand": 2, "mamba_d_state": 16, "mamba_n_groups": 1}
OWN: dict[str, dict[str, Any]] = {
    "deepseek_v3": _MOE | {
        "num_key_value_heads": 4, "n_routed_experts": 8, "n_group": 2, "topk_group": 1, "n_shared_experts": 1,
        "first_k_dense_replace": 1, "kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8, "v_head_dim": 12,
        "qk_nope_head_dim": 16,
    },
    "granitemoehybrid": _MAMBA | {
        "layer_types": ["mamba", "attention"], "num_local_experts": 4, "num_experts_per_tok": 2,
        "shared_intermediate_size": 32, "position_embedding_type": "rope",
    },
    "minimax": {
        "layer_types": ["linear_attention", "full_attention"], "num_local_experts": 4, "num_experts_per_tok": 2,
        "head_dim": 8,
    },
    "lfm2": {"layer_types": ["conv", "full_attention"], "conv_L_cache": 3, "block_ff_dim": 64},
    "qwen3": {"head_dim": 8},
    "qwen3_moe": _MOE | {"num_experts": 4, "head_dim": 8},
    "mistral": {"sliding_window": None},
    "gpt_oss": {
        "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, "rope_parameters": {"rope_type": "default"},
    },
}  # fmt: skip


def tiny(kind: str, **changes: Any) -> PreTrainedModel:
    """A random model of this ``model_type`` that takes r1rl's attention."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **(SHAPE | OWN.get(kind, {}) | changes))
    model = AutoModelForCausalLM.from_config(config, attn_implementation=register()).eval()
    for name, buffer in model.named_buffers():
        if "e_score_correction_bias" in name:
            buffer.normal_(std=0.5)
    return model

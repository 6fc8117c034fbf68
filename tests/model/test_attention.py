"""The dtypes and kernels that attention sees on each path, on the CPU and on a GPU on paper."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from r1rl.model import attention
from r1rl.model.attention import Packed, register
from r1rl.model.decode import fused_body
from r1rl.model.forward import PackedTokens, PolicyForward
from r1rl.rollout.engine import Request, complete
from r1rl.rollout.kv import Decode, Prefill, Slots
from r1rl.rollout.torch_engine import TorchEngine
from r1rl.types import Problem, SamplingParams
from tests.support.paper_gpu import CUDA, PaperGPU, on_paper, paper_gpu

BF16, CPU = torch.bfloat16, torch.device("cpu")
ROWS, PROMPTS = [[*range(3, 13), 7, 8], [*range(3, 13), 9], [4, 5, 6]], [10, 10, 1]
LAYERS = 2


@pytest.mark.parametrize(("autocast", "seen"), [(None, torch.float32), (BF16, BF16)])
def test_the_learner_attends_in_the_type_of_the_pass(tiny_policy, autocast, seen, monkeypatch: Any) -> None:
    dtypes: set[torch.dtype] = set()
    kernel = attention._per_sequence

    def spy(q, k, v, *rest):
        dtypes.update((q.dtype, k.dtype, v.dtype))
        return kernel(q, k, v, *rest)

    monkeypatch.setattr(attention, "_per_sequence", spy)
    logps, _ = PolicyForward(tiny_policy.model, 1.0, 100, autocast)(PackedTokens.build(ROWS, PROMPTS, CPU))
    logps.sum().backward()
    assert dtypes == {seen}
    assert {p.grad.dtype for p in tiny_policy.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("autocast", "seen"), [(None, torch.float32), (BF16, BF16)])
def test_the_sampler_caches_and_attends_in_the_type_of_the_pass(
    tiny_policy, fused: bool, autocast, seen, monkeypatch: Any
) -> None:
    dtypes: set[torch.dtype] = set()
    attend = Decode.attend

    def spy(self, layer, q, k, v, scale):
        dtypes.update(x.dtype for x in (q, k, v, *self.layers[layer]))
        return attend(self, layer, q, k, v, scale)

    monkeypatch.setattr(Decode, "attend", spy)
    if not fused:
        monkeypatch.setattr("r1rl.rollout.torch_engine.fused_body", lambda *_: None)
    complete(TorchEngine(tiny_policy, 4, autocast), [Request(Problem("a", (3, 4), ""), (1, 2))], SamplingParams(3))
    assert dtypes == {seen}


SHAPE = {
    "vocab_size": 50,
    "hidden_size": 64,
    "intermediate_size": 80,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "sliding_window": None,
}


def model_of() -> Any:
    config = AutoConfig.for_model("qwen2", **SHAPE)
    return AutoModelForCausalLM.from_config(config, attn_implementation=register())


VARLEN, BACKWARD = "torch_attn::_varlen_attn", "torch_attn::_varlen_attn_backward"


@pytest.mark.parametrize("weights", [torch.float32, BF16], ids=["masters under autocast", "weights in bf16"])
def test_on_a_gpu_one_kernel_attends_to_all_sequences(weights: torch.dtype) -> None:
    model = model_of().to(weights)
    with paper_gpu() as gpu:
        forward = PolicyForward(on_paper(model), 1.0, 100, BF16)
        tokens = PackedTokens.build(ROWS, PROMPTS, CUDA)
        gpu.clear()
        forward(tokens)[0].sum().backward()
        assert gpu.launches[VARLEN] == gpu.launches[BACKWARD] == LAYERS
        assert {dtypes[:3] for dtypes in gpu.dtypes[VARLEN]} == {(BF16, BF16, BF16)}
        assert not per_sequence(gpu)
        assert not gpu.syncs
        assert gpu.uploads == 1  # the boundaries, once for all layers


def test_on_a_gpu_float32_attends_one_sequence_at_a_time() -> None:
    model = model_of()
    with paper_gpu() as gpu:
        PolicyForward(on_paper(model), 1.0, 100)(PackedTokens.build(ROWS, PROMPTS, CUDA))
        assert per_sequence(gpu)
        assert VARLEN not in gpu.launches


@pytest.mark.parametrize("fused", [True, False])
def test_on_a_gpu_prompts_and_cache_are_in_half_precision(fused: bool) -> None:
    model = model_of().eval()
    with paper_gpu() as gpu, torch.no_grad(), torch.autocast("cuda", BF16):
        body = on_paper(model).get_decoder()
        own = fused_body(model, BF16)
        slots, prompts = Slots(CUDA), Prefill((3, 7))
        ids = torch.zeros(1, 10, dtype=torch.int64, device=CUDA)
        body(input_ids=ids, position_ids=ids, layout=prompts, use_cache=False)
        assert gpu.launches[VARLEN] == LAYERS
        slots.append(prompts, (2, 1))
        ids_B, at_B, layout = ids[0, :3], slots.lengths, slots.step()
        if fused:
            own(ids_B, at_B, layout)
        else:
            body(input_ids=ids_B[:, None], position_ids=at_B[:, None], layout=layout, use_cache=False)
        assert {x.dtype for pair in slots.layers.values() for x in pair} == {BF16}


def test_values_narrower_than_keys_are_padded_for_the_kernel() -> None:
    """Latent attention (DeepSeek): the kernel has one width."""
    with paper_gpu():
        q, k = (torch.zeros(1, 4, 9, 24, dtype=BF16, device=CUDA) for _ in range(2))
        v = torch.zeros(1, 4, 9, 16, dtype=BF16, device=CUDA)
        assert Packed((4, 5)).attend(0, q, k, v, 0.2).shape == (1, 9, 4, 16)


def per_sequence(gpu: PaperGPU) -> int:
    return sum(count for name, count in gpu.launches.items() if "softmax" in name or "scaled_dot_product" in name)

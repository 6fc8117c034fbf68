"""What DeepSpeed is told, and what is written into its optimizers."""

from __future__ import annotations

import pytest
import torch

from tests.support.architectures import tiny

pytest.importorskip("deepspeed", reason="pip install 'r1rl[deepspeed]'")

from r1rl.grpo.zero import ZeroBackend, fill, sharding_limits, step_count


@pytest.mark.parametrize(
    ("settings", "device"), [({"fused": True}, "meta"), ({"capturable": True}, "meta"), ({"foreach": True}, "cpu")]
)
def test_the_step_is_where_adamw_itself_keeps_it(settings, device) -> None:
    weights = torch.nn.Parameter(torch.zeros(3, device="meta"))  # meta stands for a GPU
    found = step_count(torch.optim.AdamW([torch.nn.Parameter(torch.zeros(3))], **settings), weights, 7)
    assert isinstance(found, torch.Tensor)
    assert (found.device.type, found.dtype, found.dim()) == (device, torch.float32, 0)


def test_deepspeeds_adam_counts_in_a_plain_number() -> None:
    assert step_count(torch.optim.SGD([torch.nn.Parameter(torch.zeros(3))]), torch.zeros(3), 7) == 7


def test_limits_are_layers_unless_the_launch_file_says_otherwise() -> None:
    model = tiny("qwen2", vocab_size=30_000)
    layer = sum(p.numel() for p in model.model.layers[0].parameters())
    limits = sharding_limits(model)
    assert limits["stage3_max_live_parameters"] == 3 * layer
    settings = {"stage": 3, "stage3_max_live_parameters": 5, "reduce_bucket_size": "auto"}
    fill(settings, limits)
    assert settings["stage3_max_live_parameters"] == 5
    assert settings["reduce_bucket_size"] == limits["reduce_bucket_size"]


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_shards_of_odd_sizes_are_padded_at_the_end(rank) -> None:
    backend = ZeroBackend.__new__(ZeroBackend)
    backend.rank, backend.device = rank, torch.device("cpu")
    parameter = torch.nn.Parameter(torch.zeros(0))
    parameter.ds_tensor = torch.zeros(3)
    whole = torch.arange(1.0, 8.0)
    padded = torch.cat([whole, torch.zeros(2)])
    assert torch.equal(backend._part(parameter, whole.view(7, 1)), padded[3 * rank : 3 * rank + 3])

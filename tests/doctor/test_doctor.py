from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1rl.config import load_config, stage_config
from r1rl.doctor.commands import _shape
from r1rl.doctor.memory import Shape, estimate
from r1rl.report.symptoms import causes

CONFIG = Path(__file__).parents[2] / "configs" / "tiny" / "zero.yaml"
SEVEN_B = Shape(7_615_616_512, 3584, 28, 28, 4, 128, 18944, 152064)


def parts(stage: int, ranks: int, *overrides: str) -> dict[str, float]:
    view = stage_config(load_config(CONFIG, overrides), "zero")
    return {p.name: p.bytes for p in estimate(view, SEVEN_B, ranks, stage)}


def test_zero_shards_what_it_says():
    whole, one, two, three = parts(0, 1), parts(1, 8), parts(2, 8), parts(3, 8)
    assert one["optimizer"] == whole["optimizer"] / 8
    assert one["gradients"] == whole["gradients"]
    assert two["gradients"] == whole["gradients"] / 8
    assert three["weights"] < two["weights"] / 3


def test_a_team_holds_its_share_of_a_row():
    whole, half = parts(2, 8), parts(2, 8, "grpo.sequence_parallel=2")
    assert half["activations"] == whole["activations"] / 2


def test_the_larger_of_learner_and_sampler_counts():
    many = ("rollout.prompts_per_step=64", "rollout.max_concurrent=1024", "rollout.max_new_tokens=900")
    sampler, learner = parts(0, 1, *many), parts(0, 1, *many, "rollout.engine=vllm")
    assert "activations" not in sampler
    assert "key-value cache" not in learner
    assert sampler["gradients"] == 0, "they are gone while it samples"
    longest, sequences, token = 64 + 900, 1024, 2 * 4 * 128 * 4
    assert sampler["key-value cache"] >= longest * sequences * token * SEVEN_B.layers
    assert sum(sampler.values()) > sum(learner.values())


@given(st.integers(1, 64), st.integers(1, 3))
def test_more_ranks_never_need_more_state(ranks, stage):
    state = ("weights", "gradients", "optimizer", "reference")
    fewer, more = parts(stage, ranks), parts(stage, ranks + 1)
    assert sum(more[name] for name in state) <= sum(fewer[name] for name in state)


def test_a_float32_head_copies_weights_of_lower_precision():
    half, head = "model.dtype=bfloat16", 4 * SEVEN_B.hidden * SEVEN_B.vocabulary
    assert parts(2, 8, half)["output head in float32"] == 2 * head, "and its gradient"
    assert parts(2, 8, half, "model.cast_lm_head_to_fp32=false")["output head in float32"] == 0
    assert parts(2, 8)["output head in float32"] == parts(0, 1, half)["output head in float32"] == 0


def test_lora_and_beta():
    assert parts(2, 8, "model.lora={}")["optimizer"] < parts(2, 8)["optimizer"] / 50
    assert parts(0, 1)["reference"] == 0
    assert parts(0, 1, "grpo.beta=0.01")["reference"] == 4 * SEVEN_B.parameters


def test_the_shape_of_a_model_that_the_run_itself_builds():
    run = load_config(CONFIG)
    assert 0.5e6 < _shape(stage_config(run, "zero"), run).parameters < 2e6


@pytest.mark.parametrize(
    ("metrics", "word"),
    [
        ({"rollout/zero_variance_groups": 0.95}, "95%"),
        ({"rollout/truncated": 0.9}, "rollout.max_new_tokens"),
        ({"reward/format/mean": 0.0}, "prefill"),
        ({"policy/engine_mismatch": 0.4}, "importance_cap"),
        ({"policy/ratio_deviation": 0.1}, "on-policy"),
        ({"reward/accuracy/mean": 0.0}, "no answer was right"),
    ],
)
def test_each_cause_is_named(metrics, word):
    [cause] = causes([{"reward/mean": 0.1, **metrics}] * 3)
    assert word in cause


def test_a_healthy_run_has_no_findings():
    assert causes([{"reward/mean": 0.5, "reward/format/mean": 0.9, "rollout/truncated": 0.1}]) == []

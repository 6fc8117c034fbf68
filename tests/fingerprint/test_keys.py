"""The table of keys: what is free is listed here once more, so that nothing becomes free unseen."""

from __future__ import annotations

from dataclasses import MISSING

from r1rl.config import RewriteConfig, RunConfig, SampleConfig
from r1rl.config.kinds import kind_of
from r1rl.config.walk import sections
from r1rl.fingerprint.keys import ROWS, Effect, default, effect

FREE_FOR_GRPO = """
data.eval data.eval.NAME data.held_out data.held_out.NAME data.train.NAME.preset
evaluate.reward
grpo.algorithm grpo.checkpoint_every grpo.deadline_s grpo.entropy_every grpo.eval_every grpo.guards
grpo.keep_checkpoints grpo.logprob_chunk grpo.sequence_parallel grpo.tokens_per_microbatch
model.gradient_checkpointing
rollout.dynamic_sampling rollout.engine rollout.max_concurrent
rewards.NAME.processes rewards.NAME.where
scoring.concurrency scoring.cpu_seconds scoring.function_memory_mb scoring.function_timeout_s scoring.max_lost
scoring.memory_mb scoring.wall_seconds scoring.workers
"""
VLLM_THAT_COUNTS = {"args", "in_flight"}


def keys() -> list[str]:
    """Every key of the schema, ``NAME`` where the user chooses one."""
    return [f"{path}.{name}".strip(".") for path, section, _ in sections(RunConfig) for name in section.model_fields]


def test_every_row_is_about_keys_that_exist() -> None:
    known = set(keys())
    for row in ROWS:
        assert row.pattern.removesuffix(".*") in known, row.pattern


def test_what_is_free_for_a_policy_in_training_is_listed_here() -> None:
    run = RunConfig()
    used = [key for key in keys() if any(f"{key}.".startswith(f"{part}.") for part in kind_of("grpo").parts)]
    free = {key for key in used if effect("grpo", key, run) is Effect.FREE}
    vllm = {key for key in free if key.startswith("rollout.vllm.")}
    inside = {
        key
        for key in free
        if any(
            key.startswith(f"{each}.")
            for each in ("grpo.guards", "data.eval", "data.held_out", "rollout.dynamic_sampling")
        )
    }
    assert free - vllm - inside == set(FREE_FOR_GRPO.split()) - {"data.eval.NAME", "data.held_out.NAME"}
    assert {key for key in used if key.startswith("rollout.vllm.")} - vllm == {
        f"rollout.vllm.{name}" for name in VLLM_THAT_COUNTS
    }


def test_what_steers_dynamic_sampling_counts_where_it_is_on() -> None:
    for key in ("rollout.dynamic_sampling.reward", "rollout.dynamic_sampling.max_rounds"):
        assert effect("grpo", key, RunConfig()) is Effect.FREE
        assert effect("grpo", key, RunConfig(grpo={"dynamic_sampling": True})) is Effect.LEARNED


def test_what_filters_samples_only_sifts_unless_an_endpoint_rewrote_them() -> None:
    run = RunConfig()
    used = [key for key in keys() if key.startswith("sample.")]
    sifts = {key.split(".")[1] for key in used if effect("sample", key, run) is Effect.SIFTS}
    drawn = {"samples", "temperature", "top_p", "max_new_tokens", "rewrite"}
    assert sifts == set(SampleConfig.model_fields) - drawn
    run.sample.rewrite = RewriteConfig(url="http://localhost", model="m")
    assert all(effect("sample", key, run) is not Effect.SIFTS for key in used)


def test_only_reinforcement_measures_difficulty() -> None:
    read = {"grpo": Effect.LEARNED} | dict.fromkeys(("sft", "reward_model", "sample"), Effect.FREE)
    assert {kind: effect(kind, "data.difficulty.samples", RunConfig()) for kind in read} == read


def test_a_key_without_a_row_is_learned() -> None:
    assert effect("grpo", "grpo.a_key_of_tomorrow", RunConfig()) is Effect.LEARNED


def test_evaluation_data_counts_where_it_decides_what_is_trained_on() -> None:
    run = RunConfig()
    trains = [
        (kind, f"data.{part}.held.path") for kind in ("grpo", "sft", "reward_model") for part in ("eval", "held_out")
    ]
    assert {effect(kind, key, run) for kind, key in trains} == {Effect.FREE}
    run.data.on_overlap = "drop"
    assert {effect(kind, key, run) for kind, key in trains} == {Effect.LEARNED}
    assert effect("evaluate", "data.eval.held.path", run) is Effect.LEARNED
    assert effect("sample", "data.eval.held.path", run) is Effect.LEARNED


def test_defaults_are_those_of_the_schema() -> None:
    found = default("grpo.learning_rate")
    assert found is not None
    assert (found.value, found.named) == (3e-6, False)
    assert default("rewards.own.weight").named  # type: ignore[union-attr]
    assert default("data.train.rows.path").value is MISSING  # type: ignore[union-attr]
    assert default("rewards.own.args.words").value is MISSING  # type: ignore[union-attr]
    assert default("grpo.gone") is None

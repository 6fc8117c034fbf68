"""Sizes and notes that follow from a configuration."""

from __future__ import annotations

from r1rl.config import RunConfig
from r1rl.config.derived import derive, notes


def run(**sections: object) -> RunConfig:
    return RunConfig.model_validate({"model": {"path": "m"}, **sections})


def test_sizes() -> None:
    sizes = derive(
        run(
            rollout={"prompts_per_step": 6, "group_size": 4, "max_new_tokens": 100},
            grpo={"steps": 10, "minibatches": 3, "epochs": 2},
            data={
                "prompt": {"max_tokens": 20},
                "train": {"a": {"path": "a"}, "b": {"path": "b", "prompt": {"max_tokens": 50}}},
            },
        )
    )
    assert (sizes.completions_per_step, sizes.updates_per_rollout, sizes.completions_per_update) == (24, 6, 8)
    assert (sizes.max_sequence_tokens, sizes.max_tokens_per_step) == (150, 3600)
    assert (sizes.total_updates, sizes.total_completions) == (60, 240)
    assert len(list(sizes.rows())) == 7


def test_notes() -> None:
    assert list(notes(run())) == []
    assert "micro-batch" in next(notes(run(grpo={"tokens_per_microbatch": 32})))
    assert "no effect" in next(notes(run(grpo={"algorithm": "dapo", "ref_update_every": 4})))
    assert "Python code" in next(notes(run(model={"trust_remote_code": True})))

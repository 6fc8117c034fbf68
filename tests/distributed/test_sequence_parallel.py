"""Rows of tokens that several ranks compute together give what one rank gives."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from accelerate import Accelerator

from r1rl.errors import ConfigError
from r1rl.model.ulysses import Team
from tests.support.parity import CASES, needs_deepspeed, same, same_weights
from tests.support.replay import Job, replay

SCRIPT = str(Path(__file__).parents[1] / "support" / "slices.py")
REPLAY = str(Path(__file__).parents[1] / "support" / "replay.py")


@pytest.fixture(scope="module")
def even_model(make_model):
    """Four heads, and one key-value head that every rank needs."""
    return make_model(40, 4)


@pytest.mark.integration
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("processes", "size"),
    [(2, 2), pytest.param(4, 2, marks=pytest.mark.slow), pytest.param(4, 4, marks=pytest.mark.slow)],
)
def test_slices_give_what_the_whole_row_gives(processes, size, even_model, launch, tmp_path):
    launch("ddp", SCRIPT, str(even_model), str(size), str(tmp_path), processes=processes)
    for rank in range(processes):
        for case, gap in json.loads((tmp_path / f"{rank}.json").read_text()).items():
            within = 3e-2 if "bfloat16" in case else 1e-5
            assert max(gap.values()) < within, (rank, case, gap)


@pytest.fixture(scope="module")
def whole(even_model, rollouts, tmp_path_factory):
    """The curves of one process."""
    folder = tmp_path_factory.mktemp("whole")
    jobs = {name: Job(str(even_model), rollouts, str(folder / name), grpo) for name, grpo in CASES.items()}
    gspo = {"algorithm": "gspo", "learning_rate": 3e-3, "tokens_per_microbatch": 96, "sequence_mask": 1.5, "epochs": 2}
    jobs["gspo"] = Job(str(even_model), rollouts, str(folder / "gspo"), gspo)
    return {name: (job, replay(job, Accelerator(cpu=True))) for name, job in jobs.items()}


@pytest.mark.integration
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("backend", "processes"),
    [
        ("ddp", 2),
        pytest.param("ddp", 4, marks=pytest.mark.slow),
        pytest.param("zero2", 2, marks=needs_deepspeed),
        pytest.param("zero3", 2, marks=[needs_deepspeed, pytest.mark.slow]),
    ],
)
def test_a_team_of_two_learns_the_same(backend, processes, whole, launch, tmp_path):
    jobs = [
        Job(job.model, job.rollouts, str(tmp_path / name), job.grpo | {"sequence_parallel": 2})
        for name, (job, _) in whole.items()
    ]
    (tmp_path / "jobs.json").write_text(json.dumps([asdict(job) for job in jobs]))
    launch(backend, REPLAY, str(tmp_path / "jobs.json"), processes=processes)
    for name, (job, expected) in whole.items():
        same(json.loads((tmp_path / f"{name}.json").read_text()), expected)
        same_weights(str(tmp_path / name), job.out, 2e-4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((4, 0, 6, 8, 8), "sequence_parallel 4 does not divide the run's 6 processes"),
        ((2, 0, 2, 3, 1), "the model's 3 heads with 1 key-value heads cannot be shared by 2 ranks"),
        ((8, 0, 8, 12, 4), "cannot be shared by 8"),
    ],
)
def test_teams_that_cannot_be(arguments, said):
    with pytest.raises(ConfigError, match=said):
        Team.form(*arguments)


def test_one_rank_is_no_team():
    assert Team.form(1, 0, 6, 3, 1) is None

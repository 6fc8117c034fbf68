from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from r1rl.distributed.shards import read_tensors
from r1rl.errors import StorageError
from r1rl.files import mark
from r1rl.grpo.checkpoint import MANIFEST, Checkpoints, RunState, damage
from r1rl.grpo.snapshot import read_groups, restore_rng, rng_state, rollout_state
from r1rl.types import Completion, Group, Problem, ScoredGroup


def tensors(step: int, size: int = 100):
    yield "weights/a", torch.full((size,), float(step))
    yield "adam/exp_avg/a", torch.zeros(size)


def save(checkpoints: Checkpoints, step: int, **options) -> Path:
    return checkpoints.save(RunState(step, step, "f"), tensors(step), {"rng.pt": [rng_state()]}, **options)


def test_the_newest_comes_back_whole(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3):
        save(checkpoints, step)
    state, folder = checkpoints.newest("f")
    assert (state.step, folder.name) == (3, "step-000003")
    assert dict(read_tensors(folder / "weights"))["a"].tolist() == [3.0] * 100
    assert sorted(f.name for f in tmp_path.iterdir()) == ["step-000002", "step-000003"]


def test_another_configuration_finds_nothing(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    save(checkpoints, 1)
    assert checkpoints.newest("other") is None


def test_checkpoints_of_another_configuration_are_neither_counted_nor_removed(tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (5, 6):
        save(checkpoints, step, score=0.9)
    for step in (1, 2, 3, 4, 5):
        checkpoints.save(RunState(step, step, "g"), tensors(step), score=0.1)
    assert checkpoints.newest("f")[0].step == 6
    assert checkpoints.newest("g")[0].step == 5
    assert sorted(f.name for f in tmp_path.glob("step-*")) == [
        "step-000004", "step-000005", "step-000005.1", "step-000006",
    ]  # fmt: skip
    assert damage(tmp_path / "step-000005.1") is None
    assert "step-000005 belongs to another configuration" in caplog.messages[0]
    assert checkpoints.best("g").name == "step-000005"


@pytest.mark.parametrize("harm", ["cut", "flip", "remove", "manifest", "no manifest"])
def test_a_damaged_one_is_named_and_the_one_before_is_used(tmp_path, harm, caplog):
    checkpoints = Checkpoints(tmp_path, keep=2)
    save(checkpoints, 1)
    newest = save(checkpoints, 2)
    file = newest / "weights" / "00000.safetensors"
    content = bytearray(file.read_bytes())
    if harm == "cut":
        file.write_bytes(content[:-7])
    elif harm == "flip":
        content[-1] ^= 1
        file.write_bytes(content)
    elif harm == "remove":
        file.unlink()
    elif harm == "manifest":
        (newest / MANIFEST).write_text("{")
    else:
        (newest / MANIFEST).unlink()
    state, _ = checkpoints.newest("f")
    assert state.step == 1
    assert "step-000002" in caplog.messages[0]
    assert damage(newest) in caplog.messages[0]


def test_what_a_killed_process_left_is_cleared(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    save(checkpoints, 1)
    for name in (".writing-000002", ".dropping-step-000000"):
        (tmp_path / name / "weights").mkdir(parents=True)
        mark(tmp_path / name)
    assert checkpoints.newest("f")[0].step == 1
    assert [f.name for f in tmp_path.iterdir()] == ["step-000001"]


def test_the_best_outlives_the_last(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    for step, score in ((1, 0.2), (2, 0.9), (3, None), (4, 0.5)):
        save(checkpoints, step, score=score)
    assert sorted(f.name for f in tmp_path.glob("step-*")) == ["step-000002", "step-000004"]
    assert checkpoints.best("f").name == "step-000002"
    assert checkpoints.newest("f")[0].step == 4


@pytest.mark.parametrize(("done", "best"), [(0, "step-000002"), (1, None)])
def test_a_best_checkpoint_replaced_between_two_updates_has_no_score(tmp_path, done, best):
    checkpoints = Checkpoints(tmp_path, keep=1)
    save(checkpoints, 2, score=0.9)
    checkpoints.save(RunState(2, 2, "f", {"done": done}), tensors(2))
    found = checkpoints.best("f")
    assert (found.name if found else None) == best
    save(checkpoints, 3, score=0.1)
    assert checkpoints.best("f").name == (best or "step-000003")


def test_a_step_can_be_saved_again(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    save(checkpoints, 1)
    folder = save(checkpoints, 1)
    assert damage(folder) is None
    assert [f.name for f in tmp_path.iterdir()] == ["step-000001"]


def test_ranks_that_do_not_write_still_walk_through_every_tensor(tmp_path):
    seen = []

    def watched():
        for name, tensor in tensors(1):
            seen.append(name)
            yield name, tensor

    Checkpoints(tmp_path / "none", 2).save(RunState(1, 1, "f"), watched(), write=False)
    assert seen == ["weights/a", "adam/exp_avg/a"]
    assert not (tmp_path / "none").exists()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("a small file system needs root and mount")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
    if done.returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_one_clear_error_and_loses_nothing(small_disk):
    checkpoints = Checkpoints(small_disk, keep=2)
    save(checkpoints, 1)
    seen = []

    def large():
        for name in ("weights/a", "weights/b", "adam/exp_avg/a"):
            seen.append(name)
            yield name, torch.zeros(200_000)

    with pytest.raises(StorageError, match=r"No space left on device.*step-000001"):
        checkpoints.save(RunState(2, 2, "f"), large())
    assert len(seen) == 3
    assert checkpoints.newest("f")[0].step == 1
    assert not list(small_disk.glob(".writing-*"))


def test_a_read_only_folder_is_one_clear_error(small_disk):
    checkpoints = Checkpoints(small_disk, keep=2)
    save(checkpoints, 1)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StorageError, match=r"Read-only file system.*step-000001"):
        save(checkpoints, 2)
    assert checkpoints.newest("f")[0].step == 1


def test_random_streams_go_on(tmp_path):
    import random

    torch.manual_seed(1)
    state = rng_state()
    torch.save(state, tmp_path / "rng.pt")
    drawn = (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random())
    restore_rng(torch.load(tmp_path / "rng.pt", weights_only=True))
    assert (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()) == drawn


def test_a_rollout_comes_back_as_it_was(tmp_path):
    completion = Completion(
        np.array([1, 2]), np.array([-1, -2], np.float32), "x", "stop", 3, np.array([3, 4], np.int32)
    )
    problem = Problem(
        "id", (5, 6), [{"role": "user", "content": "é"}], {"answer": "4", "n": [1, 2.5]}, "source", "<think>"
    )
    scored = ScoredGroup(
        Group(problem, [completion]), np.array([0.5]), {"accuracy": np.array([np.nan])}, {"seen": ["a"]}
    )
    torch.save(rollout_state([scored]), tmp_path / "rollout.pt")
    [back] = read_groups(tmp_path / "rollout.pt")
    assert back.group.problem == problem
    [got] = back.group.completions
    assert (got.text, got.finish, got.version) == ("x", "stop", 3)
    assert got.versions.tolist() == [3, 4]
    np.testing.assert_array_equal(got.logps, completion.logps)
    np.testing.assert_array_equal(back.by_reward["accuracy"], [np.nan])
    assert back.extras == {"seen": ["a"]}


@pytest.mark.parametrize("name", ["step-000000", "step-000001-good", "step-mine", "step-000002/notes.txt"])
def test_what_somebody_put_among_them_is_kept(tmp_path, name):
    checkpoints = Checkpoints(tmp_path, keep=1)
    save(checkpoints, 1)
    save(checkpoints, 2)
    if "." in name:
        (tmp_path / name).write_text("mine")
    else:
        shutil.copytree(tmp_path / "step-000002", tmp_path / name)
        (tmp_path / name / "manifest.json").unlink()
        (tmp_path / name / ".r1rl.json").unlink()
    for step in (3, 4):
        save(checkpoints, step)
    assert (tmp_path / name).exists()
    assert checkpoints.newest("f")[0].step == 4


def test_a_taken_place_is_named_and_left_alone(tmp_path):
    (tmp_path / "step-000001").mkdir()
    (tmp_path / "step-000001" / "notes.txt").write_text("mine")
    seen = []

    def watched():
        for name, tensor in tensors(1):
            seen.append(name)
            yield name, tensor

    with pytest.raises(StorageError, match=r"notes.txt was not written by r1rl; move it away"):
        Checkpoints(tmp_path, 2).save(RunState(1, 1, "f"), watched())
    assert seen == ["weights/a", "adam/exp_avg/a"]
    assert [str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*")] == ["step-000001", "step-000001/notes.txt"]


def test_a_millionth_step_is_the_newest(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    save(checkpoints, 999_999)
    save(checkpoints, 1_000_000)
    assert checkpoints.newest("f")[0].step == 1_000_000

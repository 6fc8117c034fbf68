"""The parts of the vLLM engine that need no vLLM: weights on their way, the check, jobs, processes, deadlines."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from r1rl.config import RunConfig
from r1rl.config.model import LoraConfig, ModelConfig, TinyModelConfig
from r1rl.distributed.deadline import deadline
from r1rl.errors import EngineError
from r1rl.model.forward import PackedTokens, PolicyForward
from r1rl.model.load import Policy, load_policy
from r1rl.rollout.engine import Request
from r1rl.rollout.vllm.arguments import engine_arguments
from r1rl.rollout.vllm.network import free_port
from r1rl.rollout.vllm.process import ServerProcess, command_line
from r1rl.rollout.vllm.sync_check import SyncCheck, SyncError
from r1rl.rollout.vllm.weights import Meta, PolicyWeights, SharedFolder, SharedWeights, plan
from r1rl.rollout.vllm.wire import sampling, versions_of
from r1rl.stages.pretrain import build_model, build_tokenizer, documents
from r1rl.types import Problem, SamplingParams


@pytest.fixture(scope="module")
def policy() -> Policy:
    torch.manual_seed(0)
    tokenizer = build_tokenizer(documents("arithmetic", seed=-1), 200)
    shape = TinyModelConfig(hidden_size=32, layers=2, heads=2, kv_heads=1, intermediate_size=64)
    return Policy(build_model(shape, tokenizer), tokenizer)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(1, 400))
def test_buckets_hold_every_tensor_once_and_within_their_size(lengths: list[int], limit: int) -> None:
    metadata = [Meta(f"w{i}", torch.float32, (n,)) for i, n in enumerate(lengths)]
    buckets, size = plan(metadata, limit)
    assert [name for b in buckets for name in b.names] == [m.name for m in metadata]
    starts = [at for b in buckets for at in b.offsets]
    ends = [start + 4 * n for start, n in zip(starts, lengths, strict=True)]
    assert all(end <= start for end, start in zip(ends, [*starts[1:], size], strict=True))
    for bucket in buckets:
        assert len(bucket.names) == 1 or sum(4 * shape[0] for shape in bucket.shapes) <= limit


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_arrive_as_they_left(policy: Policy, dtype: torch.dtype) -> None:
    folder = SharedFolder()
    shared = SharedWeights.write(PolicyWeights(policy, dtype), 3, folder.path, bucket_bytes=4096)
    requests = list(shared.requests())
    assert len(requests) > 1
    read = {}
    for r in requests:
        raw = torch.from_file(r["path"], size=r["size"], dtype=torch.uint8)
        for name, shape, at in zip(r["names"], r["shapes"], r["offsets"], strict=True):
            read[name] = raw[at : at + torch.Size(shape).numel() * dtype.itemsize].view(dtype).view(shape)
    wanted = dict(policy.model.named_parameters())
    assert read.keys() == wanted.keys()
    assert "lm_head.weight" not in read, "tied embeddings travel once"
    assert all(torch.equal(read[name], p.detach().to(dtype)) for name, p in wanted.items())
    folder.close()
    assert not folder.path.exists()


def test_weights_come_from_where_the_optimizer_keeps_them(policy: Policy) -> None:
    """Sharded and mixed-precision backends hand out whole weights by ``gather``; the model's own are not up to date."""
    whole = {name: p.detach() + 1 for name, p in policy.model.named_parameters()}
    source = PolicyWeights(
        Policy(policy.model, policy.tokenizer, gather=lambda dtype: iter(whole.items())), torch.bfloat16
    )
    assert [m.name for m in source.metadata()] == [name for name, _ in source]
    assert all(torch.equal(tensor, whole[name].bfloat16()) for name, tensor in source)


def test_adapters_travel_merged(tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="adapters need peft: pip install 'r1rl[lora]'")
    torch.manual_seed(0)
    tokenizer = build_tokenizer(documents("arithmetic", seed=-1), 200)
    shape = TinyModelConfig(hidden_size=32, layers=2, heads=2, kv_heads=1, intermediate_size=64)
    Policy(build_model(shape, tokenizer), tokenizer).save(tmp_path)
    cfg = ModelConfig(path=str(tmp_path), lora=LoraConfig(rank=2))
    trained = load_policy(cfg, torch.device("cpu"))
    with torch.no_grad():
        for name, parameter in trained.model.named_parameters():
            if "lora_" in name:
                parameter.normal_()
    plain = load_policy(ModelConfig(path=str(tmp_path)), torch.device("cpu"))
    read = dict(PolicyWeights(trained, torch.float32))
    assert read.keys() == {m.name for m in PolicyWeights(trained, torch.float32).metadata()}
    assert read.keys() == dict(plain.model.named_parameters()).keys(), "the engine's model has no adapters"
    plain.model.load_state_dict(read, strict=False)
    tokens = PackedTokens.build([list(range(12))], [1], torch.device("cpu"))
    with torch.no_grad():
        served, learned = (PolicyForward(p.model, 1.0, 64, None)(tokens)[0] for p in (plain, trained))
    torch.testing.assert_close(served, learned, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("dtype", "cast", "device", "asked"), [
    ("bfloat16", True, "cuda", {"head_dtype": "float32"}),
    ("bfloat16", False, "cuda", None),
    ("float32", True, "cuda", None),
    ("bfloat16", True, "cpu", None),
])  # fmt: skip
def test_vllm_is_asked_for_the_learners_head(dtype: str, cast: bool, device: str, asked: dict | None) -> None:
    model = SimpleNamespace(device=torch.device(device, 0), config=SimpleNamespace(max_position_embeddings=512))
    cfg = RunConfig(model={"path": "x", "dtype": dtype, "cast_lm_head_to_fp32": cast}, rollout={"engine": "vllm"})
    arguments = engine_arguments(cfg, SimpleNamespace(model=model), "direct")  # type: ignore[arg-type]
    assert arguments.get("hf_overrides") == asked


def test_folders_of_dead_processes_are_swept(tmp_path: Path) -> None:
    first = SharedFolder()
    dead = first.path.parent / "r1rl-weights-4194999-x"  # above the largest process id
    dead.mkdir(exist_ok=True)
    (dead / "owner.lock").touch()
    second = SharedFolder()
    assert not dead.exists()
    assert first.path.exists()
    first.close()
    second.close()


def answers(check: SyncCheck, logps: np.ndarray) -> list[list[float]]:
    lengths = np.cumsum([len(p) - 1 for p in check.prompts])[:-1]
    return [row.tolist() for row in np.split(logps, lengths)]


def test_the_check_wants_version_and_log_probabilities(policy: Policy) -> None:
    check = SyncCheck(policy, None)
    expected = check.expect(5)
    right = expected.logps
    assert check.compare("a", expected, "5", answers(check, right)) == 0
    with pytest.raises(SyncError, match="version 4, the learner is at 5"):
        check.compare("a", expected, "4", answers(check, right))
    with pytest.raises(SyncError, match="other weights"):
        check.compare("a", expected, "5", answers(check, right - 0.01))
    with pytest.raises(SyncError, match="other weights"):
        check.compare("a", expected, "5", answers(check, right * np.nan))
    with pytest.raises(SyncError, match="probe tokens"):
        check.compare("a", expected, "5", answers(check, right)[:-1])


def test_the_check_notices_an_engine_that_stands_still(policy: Policy) -> None:
    """A small update moves the log-probabilities by less than the tolerance: standing still gives it away."""
    check = SyncCheck(policy, None)
    before = check.expect(1)
    check.compare("a", before, "1", answers(check, before.logps))
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(1 + 1e-4)
    after = check.expect(2)
    assert 1e-5 < np.abs(after.logps - before.logps).mean() < check.tolerance
    with pytest.raises(SyncError, match="did not arrive"):
        check.compare("a", after, "2", answers(check, before.logps))
    check.compare("a", after, "2", answers(check, after.logps))


def request(count: int = 2) -> Request:
    return Request(Problem("p", (1, 2), ""), tuple(range(7, 7 + count)))


def test_seeds_and_stops_reach_vllm() -> None:
    wanted = sampling(request(3), SamplingParams(9, 0.7, 0.9, 5, ("X",)), (0, 4), seeded=True)
    assert (wanted["n"], wanted["seed"], wanted["max_tokens"], wanted["temperature"]) == (3, 7, 9, 0.7)
    assert wanted["stop"] == ["X"]
    assert wanted["include_stop_str_in_output"]
    assert wanted["stop_token_ids"] == [0, 4]
    assert "seed" not in sampling(request(), SamplingParams(9), (0,), seeded=False)


def test_versions_by_token() -> None:
    assert versions_of([("3", 0, 5)], 5, 9) == (3, None)
    first, versions = versions_of([("3", 0, 2), ("4", 2, 5)], 5, 9)
    assert first == 3
    assert versions is not None
    assert versions.tolist() == [3, 3, 4, 4, 4]
    assert versions_of(None, 5, 9) == (9, None)


def test_a_taken_port_is_left_alone(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = stranger.getsockname()[1]
        assert ServerProcess([], [], {}, tmp_path / "log", "127.0.0.1", taken).port != taken
        process = ServerProcess([], [], {}, tmp_path / "log", "127.0.0.1", free_port("127.0.0.1"))
        process.port = taken
        process.move()
        assert process.port != taken


def test_a_process_is_ended_with_its_children(tmp_path: Path) -> None:
    process = ServerProcess(["sh", "-c", "sleep 100 & echo up; wait"], [], {}, tmp_path / "log", "127.0.0.1", 0)
    process.start()
    while "up" not in process.tail():
        time.sleep(0.01)
    assert process.exited() is None
    process.kill()
    assert process.pid is None


def test_python_arguments_as_flags() -> None:
    flags = command_line({"max_model_len": 8, "enforce_eager": True, "x": False, "y": None, "c": {"backend": "b"}})
    assert flags == ["--max-model-len", "8", "--enforce-eager", "--no-x", "--c", '{"backend": "b"}']


def test_a_deadline_names_rank_and_phase_and_prints_stacks(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EngineError, match=r"rank 3: syncing took more than 0\.2 s"), deadline(0.2, "syncing", rank=3):
        threading.Event().wait(10)
    printed = capfd.readouterr().err
    assert "rank 3: syncing" in printed
    assert "test_vllm_parts.py" in printed


def test_a_deadline_reaches_a_job_that_ignores_interrupts() -> None:
    import signal

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(EngineError), deadline(0.2, "syncing"):
            threading.Event().wait(10)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_deadline_kept_changes_nothing() -> None:
    with deadline(5, "quick"):
        pass
    with pytest.raises(KeyboardInterrupt), deadline(5, "interrupted by the user"):
        raise KeyboardInterrupt


def test_shared_memory_of_a_living_owner_is_never_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another container's process ids mean nothing here, although it shares the folder."""
    monkeypatch.setattr("r1rl.rollout.vllm.weights.SHM", str(tmp_path))
    first = SharedFolder()
    moved = first.path.rename(first.path.with_name("r1rl-weights-999999999-x"))  # no process of that number here
    dead, mine = tmp_path / "r1rl-weights-999999998-y", tmp_path / "r1rl-weights-999999997-z"
    dead.mkdir()
    (dead / "owner.lock").touch()
    mine.mkdir()
    (mine / "notes.txt").touch()
    second = SharedFolder()
    assert moved.exists()
    assert not dead.exists()
    assert (mine / "notes.txt").exists()
    second.close()
    assert not second.path.exists()

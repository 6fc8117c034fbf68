"""Every process of ``accelerate launch`` has its own workers, and none outlives its trainer, killed or not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.support.waits import HANG_S

SCRIPT = """
import json, os, sys, time
from pathlib import Path
import numpy as np
from accelerate import Accelerator
from r1rl.config.rewards import RewardConfig, ScoringConfig
from r1rl.scoring import Scorer
from r1rl.types import Completion, Group, Problem

accelerator = Accelerator(cpu=True)
rank = accelerator.process_index
texts = [f"\\\\boxed{{x^2+{n}}}" for n in range(4)]
empty = np.zeros(0)
group = Group(Problem("p", (), "q", {"answer": f"{rank}+x^2"}), [Completion(empty, empty, t, "stop") for t in texts])
scorer = Scorer({"accuracy": RewardConfig()}, ScoringConfig())
scorer.submit(group)
rewards = scorer.score([group])[0].rewards.tolist()
host = scorer.checker.sandbox.host_pid()
(Path(sys.argv[1]) / f"{rank}.json").write_text(
    json.dumps({"pid": os.getpid(), "host": host, "workers": scorer.checker.sandbox.pids(), "rewards": rewards})
)
accelerator.wait_for_everyone()
if sys.argv[2] == "stay":
    time.sleep(120)
"""


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.integration
@pytest.mark.parametrize("end", ["leave", "stay"])
def test_two_processes(tmp_path: Path, end: str) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    config = Path(__file__).parents[2] / "launch" / "accelerate" / "ddp.yaml"
    command = ["accelerate.commands.launch", "--config_file", str(config), "--num_processes", "2"]
    command += ["--main_process_port", "0"]
    launch = subprocess.Popen([sys.executable, "-m", *command, str(script), str(tmp_path), end])
    files = [tmp_path / "0.json", tmp_path / "1.json"]
    deadline = time.monotonic() + HANG_S
    while not all(file.exists() and file.read_text() for file in files) and time.monotonic() < deadline:
        assert launch.poll() in (None, 0)
        time.sleep(0.1)
    ranks = [json.loads(file.read_text()) for file in files]
    assert [rank["rewards"] for rank in ranks] == [[1, 0, 0, 0], [0, 1, 0, 0]]
    assert ranks[0]["host"] != ranks[1]["host"]
    if end == "stay":
        for rank in ranks:
            psutil.Process(rank["pid"]).send_signal(signal.SIGKILL)
    launch.wait(HANG_S)
    processes = [pid for rank in ranks for pid in (rank["host"], *rank["workers"])]
    assert len(processes) >= 4
    deadline = time.monotonic() + HANG_S
    while any(map(alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, processes))

"""Waits between processes end in time and say what was lost."""

from __future__ import annotations

import re

import pytest
import torch

from r1rl.distributed.processes import naming_lost_peers
from r1rl.errors import TrainingError
from tests.support.waits import HANG_S

SCRIPT = """
import os
import sys
import time
from pathlib import Path
import torch
from r1rl.distributed.processes import start
accelerator = start("cpu", 4.0)
group = torch.distributed.new_group()  # as DeepSpeed makes its own: without a time-out
others = {"made": group, "default": None}
for name, group in others.items():
    left = Path(sys.argv[1]) / name
    if accelerator.is_main_process:
        begin = time.monotonic()
        try:
            torch.distributed.all_reduce(torch.ones(1), group=group)
        except RuntimeError as error:
            print(name, "ended after", round(time.monotonic() - begin), flush=True)
        left.touch()
    else:
        while not left.exists():
            time.sleep(0.05)
os._exit(0)
"""
"""Leaves without torch's teardown, which now and then aborts over a thread of the group that timed out."""


@pytest.mark.integration
def test_groups_that_a_library_makes_keep_the_deadline(launch, tmp_path):
    script = tmp_path / "wait.py"
    script.write_text(SCRIPT)
    said = launch("ddp", str(script), str(tmp_path))
    waited = {name: int(seconds) for name, seconds in re.findall(r"(\w+) ended after (\d+)", said)}
    assert waited.keys() == {"made", "default"}
    assert all(4 <= seconds < HANG_S / 2 for seconds in waited.values()), waited  # torch's own would be 1,800


@pytest.mark.parametrize(
    "error",
    [
        torch.distributed.DistNetworkError("could not connect"),
        torch.distributed.DistStoreError("wait timeout after 15000ms"),
        RuntimeError("\n[gloo/transport/tcp/pair.cc:546] Connection closed by peer"),
    ],
    ids=["network", "store", "gloo"],
)
def test_what_a_lost_process_looks_like(error):
    with (
        pytest.raises(TrainingError, match=r"rank 1 of 2 lost the others in step 3.*\(.*(connect|timeout|gloo).*\)"),
        naming_lost_peers(1, 2, "in step 3"),
    ):
        raise error


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shape"), naming_lost_peers(0, 2, ""):
        raise RuntimeError("shape mismatch")
    with pytest.raises(RuntimeError, match="gloo"), naming_lost_peers(0, 1, ""):
        raise RuntimeError("gloo")

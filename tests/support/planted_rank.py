"""A rank of the check of ZeRO whose learner resumes without AdamW's averages."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from r1rl.distributed.interrupt import end_with
from r1rl.doctor.machine import zero_rank
from r1rl.grpo.learner import Learner

Learner.load = lambda self, folder, state: None

if __name__ == "__main__":
    end_with(os.getppid())
    zero_rank.main(sys.argv[1], Path(sys.argv[2]))

"""Checks of the machine with a fault planted in what they check, each to be run in a process of its own."""

from __future__ import annotations

import os
import time

from r1rl.doctor.machine.findings import Findings, NotTried


def passes(found: Findings) -> None:
    found.at_most("error", 0.1, 0.2)
    found.summary = "error 0.1"


def fails(found: Findings) -> None:
    found.at_most("error", 0.3, 0.2)


def not_tried(found: Findings) -> None:
    raise NotTried("needs two GPUs; there are none")


def raises(found: Findings) -> None:
    found.note("before", 1)
    raise RuntimeError("no kernel image is available\nfor this device")


def crashes(found: Findings) -> None:
    os.abort()


def exits(found: Findings) -> None:
    print("cannot open libcuda.so", flush=True)
    os._exit(3)


def hangs(found: Findings) -> None:
    print(f"worker {os.spawnlp(os.P_NOWAIT, 'sleep', 'sleep', '3600')}", flush=True)
    time.sleep(3600)


def half_the_memory(found: Findings) -> None:
    """A memory formula that forgets half of every part."""
    from dataclasses import replace

    from r1rl.doctor.machine import load
    from r1rl.doctor.machine.memory import peak

    estimate = load.estimate
    load.estimate = lambda *args, **kwargs: [replace(p, bytes=p.bytes / 2) for p in estimate(*args, **kwargs)]
    peak(found)


def a_learner_that_does_not_learn(found: Findings) -> None:
    """The update is computed, and the weights stay."""
    from r1rl.doctor.machine.learning import learning
    from r1rl.grpo import learner

    learner.learning_rate = lambda *args: 0.0
    learning(found)


def a_learner_that_unlearns(found: Findings) -> None:
    """Advantages of the wrong sign."""
    from r1rl.doctor.machine.learning import learning
    from r1rl.grpo import batch

    advantages = batch.advantages
    batch.advantages = lambda *args: [-each for each in advantages(*args)]
    learning(found)


def zero_that_forgets_its_averages(found: Findings) -> None:
    """Resuming without AdamW's averages."""
    from r1rl.doctor.machine import zero

    zero.RANK = "tests.support.planted_rank"
    zero.zero2(found)

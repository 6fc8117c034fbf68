"""Saves the complete state of a run, finds it again, and restores it.

The place in the data needs no state: the prompts of a step are a function of the seed and the step
(:class:`r1rl.data.stream.PromptStream`).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from r1rl.config import RunConfig
from r1rl.distributed.collectives import failing_together, from_main
from r1rl.errors import StorageError
from r1rl.grpo.batch import Rollout, make_batch
from r1rl.grpo.checkpoint import Checkpoints, RunState
from r1rl.grpo.learner import Learner
from r1rl.grpo.snapshot import RNG, ROLLOUT, read_groups, restore_logps, restore_rng, rng_state, rollout_state

log = logging.getLogger(__name__)


class SavedRun:
    """The checkpoints of one run. Every method is collective.

    Args:
        folder: of the stage; the checkpoints are in its ``checkpoints``.
        fingerprint: of what the run learns from; checkpoints of another one are not resumed.
    """

    def __init__(self, folder: Path, config: RunConfig, accelerator: Accelerator, fingerprint: str) -> None:
        self.config, self.accelerator, self.fingerprint = config, accelerator, fingerprint
        self.checkpoints = Checkpoints(folder / "checkpoints", config.grpo.keep_checkpoints)

    def newest(self) -> tuple[RunState, Path | None]:
        """The newest intact checkpoint and its state, the same on every process; an initial state and None without
        one."""
        found = self.checkpoints.newest(self.fingerprint) if self.accelerator.is_main_process else None
        found = from_main(found)
        if found is None:
            return RunState(step=0, version=0, fingerprint=self.fingerprint), None
        steps = self.config.grpo.steps
        if found[0].step > steps:
            log.info(f"step {found[0].step} was reached before; grpo.steps {steps} ends there")
        return found

    def restore(self, learner: Learner, state: RunState, checkpoint: Path | None) -> Rollout | None:
        """Load everything but the weights, which the learner was built with.

        Returns:
            The rollout that an interrupted step was learning from, if any.
        """
        torch.manual_seed(self.config.seed * 1_000_003 + self.accelerator.process_index)  # for dropout
        if checkpoint is None:
            return None
        learner.load(checkpoint, state.learner)
        ranks, rank = learner.backend.ranks, learner.backend.rank
        if state.ranks == ranks:
            restore_rng(torch.load(checkpoint / RNG, weights_only=True)[rank])
        moved = "" if state.ranks == ranks else f", written by {state.ranks} processes, on {ranks}"
        log.info(f"resuming after step {state.step} from {checkpoint}{moved}")
        if not (checkpoint / ROLLOUT).is_file():
            return None
        groups = read_groups(checkpoint / ROLLOUT)
        batch = make_batch(groups, self.config.grpo.scale_rewards, self.config.grpo.mask_truncated)
        restore_logps(checkpoint / ROLLOUT, batch.samples)
        return Rollout(groups, batch)

    def save(
        self, step: int, version: int, learner: Learner, rollout: Rollout | None, score: float | None = None
    ) -> Path:
        """Write a checkpoint and return its folder.

        Args:
            step: finished steps.
            version: of the policy.
            rollout: what an interrupted step is learning from.
            score: of the policy on held-out problems, if it was measured; the best checkpoint is kept.

        Raises:
            StorageError: it could not be written; raised on every process.
        """
        others: dict[str, Any] = {RNG: learner.backend.gather([rng_state()])}
        if rollout is not None:
            others[ROLLOUT] = rollout_state(rollout.groups, rollout.batch.samples)
        state = RunState(step, version, self.fingerprint, learner.state_dict(), learner.backend.ranks)
        with failing_together(StorageError):
            return self.checkpoints.save(
                state, learner.tensors(), others, write=self.accelerator.is_main_process, score=score
            )

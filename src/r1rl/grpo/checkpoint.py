"""Checkpoints: written beside and renamed, so that the newest one is always whole."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from r1rl.grpo.learner import Learner
from r1rl.model.load import Policy

STATE, LEARNER, MODEL = "state.json", "learner.pt", "model"


@dataclass(frozen=True, slots=True)
class RunState:
    """Where the run stands after a step. Every random stream is a function of the seed and these numbers."""

    step: int
    version: int
    fingerprint: str
    """Of the configuration that trained it; another one does not resume from here."""


class Checkpoints:
    """The numbered checkpoints of one stage, the last ``keep`` of them."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def save(self, state: RunState, policy: Policy, learner: Learner) -> Path:
        """Write everything to a temporary folder, flush it to disk, rename it, and drop the oldest."""
        final = self.folder / f"step-{state.step:06d}"
        draft = self.folder / f".writing-{state.step:06d}"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        policy.save(draft / MODEL)
        torch.save(learner.state_dict(), draft / LEARNER)
        (draft / STATE).write_text(json.dumps(asdict(state)))
        for file in draft.rglob("*"):
            if file.is_file():
                _flush(file)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(draft, final)
        _flush(self.folder)
        for old in self._all()[: -self.keep]:
            shutil.rmtree(old)
        return final

    def newest(self, fingerprint: str) -> tuple[RunState, Path] | None:
        """The newest checkpoint that belongs to this configuration, or None."""
        for folder in reversed(self._all()):
            state = RunState(**json.loads((folder / STATE).read_text()))
            if state.fingerprint == fingerprint:
                return state, folder
        return None

    def _all(self) -> list[Path]:
        return sorted(f for f in self.folder.glob("step-*") if (f / STATE).is_file())


def restore(folder: Path, policy: Policy, learner: Learner) -> None:
    """Load weights and learner state in place."""
    weights: dict[str, Tensor] = {}
    for file in sorted((folder / MODEL).glob("*.safetensors")):
        weights |= load_file(file, device=str(policy.model.device))
    policy.model.load_state_dict(weights, strict=False)
    policy.model.tie_weights()
    learner.load_state_dict(torch.load(folder / LEARNER, map_location=policy.model.device, weights_only=True))


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

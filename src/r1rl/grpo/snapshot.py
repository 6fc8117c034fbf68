"""What a checkpoint holds besides weights: torch's random streams, and a rollout that was only partly learned from."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from r1rl.files import finite
from r1rl.grpo.batch import Sample
from r1rl.types import Completion, Group, Problem, ScoredGroup

RNG, ROLLOUT = "rng.pt", "rollout.pt"


def rng_state() -> dict[str, Any]:
    """Every global random stream of this process."""
    version, words, gauss = random.getstate()
    kind, keys, at, has, cached = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), at, has, cached],
        "python": [version, torch.tensor(words), gauss],
    }


def restore_rng(state: dict[str, Any]) -> None:
    """Undo :func:`rng_state`."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    kind, keys, at, has, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), at, has, cached))
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))


def rollout_state(groups: Sequence[ScoredGroup], samples: Sequence[Sample] = ()) -> dict[str, Any]:
    """Scored groups, and the old and reference log-probabilities of the samples made from them, for ``torch.save``.

    Only tensors and plain values, so that reading the file runs no code.
    """
    logps = [[None if x is None else torch.from_numpy(x) for x in (s.old_logps, s.ref_logps)] for s in samples]
    return {"groups": [_plain(g) for g in groups], "logps": logps}


def read_groups(file: Path) -> list[ScoredGroup]:
    """The groups of a stored :func:`rollout_state`."""
    return [_group(row) for row in torch.load(file, weights_only=True)["groups"]]


def restore_logps(file: Path, samples: Sequence[Sample]) -> None:
    """Give samples, rebuilt from the stored groups, the log-probabilities stored with them."""
    for sample, (old, ref) in zip(samples, torch.load(file, weights_only=True)["logps"], strict=True):
        sample.old_logps = None if old is None else old.numpy()
        sample.ref_logps = None if ref is None else ref.numpy()


def _plain(scored: ScoredGroup) -> dict[str, Any]:
    problem = scored.group.problem
    fields = [problem.id, problem.prompt, dict(problem.columns), problem.source, problem.prefill]
    return {
        "problem": json.dumps(fields, default=_plain_value),
        "prompt_ids": torch.tensor(problem.prompt_ids, dtype=torch.int64),
        "completions": [
            {
                "token_ids": torch.from_numpy(c.token_ids),
                "logps": torch.from_numpy(c.logps),
                "text": c.text,
                "finish": c.finish,
                "version": c.version,
                "versions": None if c.versions is None else torch.from_numpy(c.versions),
            }
            for c in scored.group.completions
        ],
        "rewards": torch.from_numpy(scored.rewards),
        "extras": json.dumps(finite(scored.extras)),
        "by_reward": {name: torch.from_numpy(values) for name, values in scored.by_reward.items()},
    }


def _plain_value(value: Any) -> Any:
    """Converts what JSON has no type for: an array as a list, anything else as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _group(row: dict[str, Any]) -> ScoredGroup:
    id_, prompt, columns, source, prefill = json.loads(row["problem"])
    problem = Problem(id_, tuple(row["prompt_ids"].tolist()), prompt, columns, source, prefill)
    completions = [
        Completion(
            token_ids=c["token_ids"].numpy(),
            logps=c["logps"].numpy(),
            text=c["text"],
            finish=c["finish"],
            version=c["version"],
            versions=None if c["versions"] is None else c["versions"].numpy(),
        )
        for c in row["completions"]
    ]
    by_reward = {name: values.numpy() for name, values in row["by_reward"].items()}
    extras = json.loads(row.get("extras", "{}"))
    return ScoredGroup(Group(problem, completions), row["rewards"].numpy(), by_reward, extras)

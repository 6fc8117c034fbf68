"""How often the starting policy solves each training problem: measured once, by all processes, and kept on disk."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from r1rl.config import RewardConfig, RunConfig
from r1rl.config.applied import training_applies
from r1rl.config.data import DifficultyConfig
from r1rl.data.problems import ProblemSets, filter_by_pass_rate
from r1rl.distributed.collectives import from_main, gather
from r1rl.distributed.interrupt import Interrupt, Interrupted
from r1rl.errors import DataError, writing
from r1rl.files import json_line, replacing
from r1rl.model.load import Policy
from r1rl.rollout.engine import Engine, Request
from r1rl.rollout.seeds import completion_seeds
from r1rl.scoring import Scorer
from r1rl.tracking.console import Console
from r1rl.types import Group, Problem, SamplingParams

log = logging.getLogger(__name__)

FILE = "difficulty.jsonl"
"""In the stage's folder: one line with the conditions of the measurement, then one line per problem."""

_ROUND = 256
"""Problems that each process measures between two writes of the file; a killed run loses no more than these."""
_STEP = 2**31 - 2
"""Place of the measurement in the random streams, which no training step reaches."""
_VALUES = 1024
"""Values of each tensor that the digest of a policy reads."""

Rates = dict[str, float | None]
"""Share of correct samples, 0..1, by problem id; None where the reward gave no sample a value."""


class Difficulty:
    """Measures pass rates and keeps the problems within the bounds of ``data.difficulty``.

    Args:
        policy: the starting policy, before any checkpoint is loaded into it.
        interrupt: asked between rounds, on every process at once; a request to stop ends the measurement there.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: Path,
        policy: Policy,
        accelerator: Accelerator,
        console: Console,
        interrupt: Interrupt,
    ) -> None:
        assert config.data.difficulty is not None
        self.bounds: DifficultyConfig = config.data.difficulty
        self.config, self.path = config, folder / FILE
        self.accelerator, self.console, self.interrupt = accelerator, console, interrupt
        self.reward = config.evaluate.reward
        self.measured_with = _measured_with(config, policy, self.bounds.samples)

    def filter(self, train: ProblemSets, engine: Engine, scorer: Scorer, begun: bool) -> None:
        """Keep in ``train`` the problems whose pass rate lies within the bounds; others are counted as ``difficulty``.

        Sources to which ``evaluate.reward`` does not apply, and problems on which it gave no value, stay.

        Args:
            begun: the run resumes from a checkpoint, so that the starting policy cannot be measured any more.

        Raises:
            DataError: it has begun and pass rates are missing, or nothing is within the bounds.
            Interrupted: a stop was requested; what was measured is on disk.
        """
        applies = training_applies(self.config)
        judged = [name for name in train.by_source if self.reward in (applies[name] or self.config.rewards)]
        for name in train.by_source:
            if name not in judged:
                log.info(f"{name}: its rewards leave out {self.reward}, so its problems are not filtered")
        rates: Rates = from_main(self._read())
        wanted = [(i, p) for name in judged for i, p in enumerate(train.by_source[name])]
        missing = [(i, p) for i, p in wanted if _key(p) not in rates]
        if missing and begun:
            raise DataError(
                f"{self.path} lacks the pass rates of {len(missing)} of {len(wanted)} problems (of this policy, seed, "
                "prompt and sampling), and the policy has been trained since, so they cannot be measured any more. Put "
                "the file back, remove data.difficulty, or start again in another run folder"
            )
        if missing:
            self._measure(missing, rates, engine, scorer)
        for name in judged:
            self._keep(train, name, rates)

    def _keep(self, train: ProblemSets, name: str, rates: Rates) -> None:
        problems = train.by_source[name]
        kept = filter_by_pass_rate(problems, {p.id: rates[_key(p)] for p in problems}, self.bounds)
        train.by_source[name] = kept
        if len(kept) < len(problems):
            train.skipped.setdefault(name, Counter())["difficulty"] += len(problems) - len(kept)
        unjudged = sum(rates[_key(p)] is None for p in problems)
        also = f", {unjudged} of them because {self.reward} gave them no value" if unjudged else ""
        log.info(f"{name}: {len(kept)} of {len(problems)} problems are within the difficulty bounds{also}")

    def _measure(self, missing: Sequence[tuple[int, Problem]], rates: Rates, engine: Engine, scorer: Scorer) -> None:
        """In each round every process measures its share; the main process writes the results of all."""
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        size = _ROUND * ranks
        with self.console.progress("measuring difficulty", total=len(missing), unit="problem") as bar:
            for start in range(0, len(missing), size):
                if self.interrupt.requested_anywhere(gather):
                    raise Interrupted
                found = self._share(missing[start : start + size][rank::ranks], engine, scorer)
                for each in gather([found]):
                    rates |= each
                if self.accelerator.is_main_process:
                    self._write(rates)
                bar.update(done=min(start + size, len(missing)))
        scorer.drain()

    def _share(self, problems: Sequence[tuple[int, Problem]], engine: Engine, scorer: Scorer) -> Rates:
        rollout = self.config.rollout
        params = SamplingParams(rollout.max_new_tokens, rollout.temperature, stop=tuple(rollout.stop))
        requests = [
            Request(p, completion_seeds(self.config.seed, _STEP, 0, i, self.bounds.samples)) for i, p in problems
        ]
        groups = []
        for index, completions in engine.stream(requests, params):
            groups.append(Group(requests[index].problem, completions))
            scorer.submit(groups[-1])
        return {_key(g.group.problem): _rate(g.by_reward[self.reward]) for g in scorer.score(groups)}

    def _read(self) -> Rates:
        """The pass rates in the file; none where it is missing or was measured under other conditions."""
        if not self.accelerator.is_main_process or not self.path.is_file():
            return {}
        try:
            head, *rows = [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]
            if isinstance(head.get("reward"), dict):
                head["reward"] = {RewardConfig.former_names.get(key, key): v for key, v in head["reward"].items()}
            found: Rates = {row["problem"]: row["pass_rate"] for row in rows}
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.path} cannot be read: {error!r}; remove it to measure again") from error
        other = [key for key, value in self.measured_with.items() if head.get(key) != value]
        if other:
            log.warning(f"{self.path} was measured with another {', '.join(other)}: not used")
            return {}
        return found

    def _write(self, rates: Rates) -> None:
        with writing(self.path), replacing(self.path) as file:
            file.write(json_line(self.measured_with))
            file.writelines(json_line({"problem": key, "pass_rate": rate}) for key, rate in rates.items())


def _measured_with(config: RunConfig, policy: Policy, samples: int) -> dict[str, Any]:
    """Everything that pass rates depend on, except the prompts."""
    rollout, reward = config.rollout, config.evaluate.reward
    return {
        "policy": digest(policy),
        "seed": config.seed,
        "samples": samples,
        "temperature": rollout.temperature,
        "max_new_tokens": rollout.max_new_tokens,
        "stop": rollout.stop,
        "reward": {"name": reward, **config.rewards[reward].model_dump(mode="json", exclude={"weight"})},
    }


def digest(policy: Policy) -> str:
    """16 hexadecimal digits of a policy's weights, read at a thousand places of each tensor."""
    hasher = hashlib.blake2b(digest_size=8)
    for name, tensor in policy.model.named_parameters():
        flat = tensor.detach().reshape(-1)
        places = torch.linspace(0, max(0, len(flat) - 1), min(len(flat), _VALUES), dtype=torch.float64).long()
        hasher.update(f"{name}{tuple(tensor.shape)}".encode())
        hasher.update(flat[places.to(flat.device)].float().cpu().numpy().tobytes())
    return hasher.hexdigest()


def _key(problem: Problem) -> str:
    """A problem's id and a hash of its prompt as the policy reads it."""
    prompt = np.asarray(problem.prompt_ids, dtype=np.int64).tobytes()
    return f"{problem.id}/{hashlib.blake2b(prompt, digest_size=4).hexdigest()}"


def _rate(values: np.ndarray) -> float | None:
    judged = values[~np.isnan(values)]
    return float((judged > 0.5).mean()) if len(judged) else None

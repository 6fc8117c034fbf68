"""Puts the parts of a GRPO run together: what the stage, the command line and the Python API all use."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from r1rl.config import RunConfig
from r1rl.config.applied import held_out, idle, training_applies, training_rewards
from r1rl.config.derived import derive
from r1rl.data.problems import ProblemSets, ensure_disjoint, load_problems, read_questions
from r1rl.data.stream import PromptStream
from r1rl.distributed.cores import cores, learner_threads
from r1rl.distributed.interrupt import PREEMPTED, Interrupt, Interrupted
from r1rl.distributed.processes import naming_lost_peers
from r1rl.errors import R1Error, StorageError
from r1rl.evaluation.measure import check_lengths, evaluate
from r1rl.files import alone_in, claim
from r1rl.fingerprint.identity import Identity
from r1rl.fingerprint.mark import take
from r1rl.grpo.ahead import AheadExperience
from r1rl.grpo.batch import make_batch
from r1rl.grpo.checkpoint import Checkpoints, RunState
from r1rl.grpo.difficulty import Difficulty
from r1rl.grpo.experience import DynamicExperience, Experience, PlainExperience, StepPrompts
from r1rl.grpo.learner import Learner
from r1rl.grpo.loop import Loop, Metrics, Rollout
from r1rl.grpo.memory import naming_memory
from r1rl.grpo.metrics import sample_rows
from r1rl.grpo.snapshot import RNG, ROLLOUT, read_groups, restore_logps, restore_rng, rng_state, rollout_state
from r1rl.model.lengths import check_prompts
from r1rl.model.load import load_policy
from r1rl.rollout.build import build_engine
from r1rl.rollout.collect import Rollouts
from r1rl.rollout.engine import Engine
from r1rl.scoring import Scorer
from r1rl.tracking import Tracker, build_tracker
from r1rl.tracking.console import Console, Progress
from r1rl.tracking.jsonl import figures
from r1rl.tracking.messages import show_messages
from r1rl.types import SamplingParams

log = logging.getLogger(__name__)

HEADLINES = {
    "reward/mean": "reward",
    "reward/accuracy/mean": "accuracy",
    "rollout/length_mean": "length",
    "policy/loss": "loss",
    "rollout/completions_per_s": "completions/s",
}
"""Metrics that the console shows while training, and what it calls them."""


class GRPOTrainer:
    """Trains one policy by GRPO.

    Args:
        config: the run as its grpo stage sees it (``r1rl.stage_config``), ``model.path`` a checkpoint.
        folder: receives metrics.jsonl, samples.jsonl, checkpoints/ and model/.
        overwrite: where the folder holds work that was made with other settings, files or code, rename it and begin
            anew; otherwise :meth:`train` refuses.
        fingerprint: stands for everything that the run learns from, and is compared instead of it; computed where it
            is not given.

    Example:
        >>> from r1rl import GRPOTrainer, load_config
        >>> GRPOTrainer(load_config("zero.yaml"), Path("runs/mine/grpo")).train()  # doctest: +SKIP
    """

    def __init__(
        self,
        config: RunConfig,
        folder: str | Path,
        *,
        accelerator: Accelerator | None = None,
        console: Console | None = None,
        overwrite: bool = False,
        fingerprint: str = "",
        interrupt: Interrupt | None = None,
    ) -> None:
        self.config, self.folder = config, Path(folder)
        self.overwrite, self.fingerprint = overwrite, fingerprint
        self.accelerator = accelerator or Accelerator()
        main = self.accelerator.is_main_process
        self.console = console or Console(quiet=not (config.tracking.console and main))
        if console is None:
            show_messages(self.console, self.accelerator.process_index)
        self.checkpoints = Checkpoints(self.folder / "checkpoints", config.grpo.keep_checkpoints)
        self.interrupt = interrupt or Interrupt()
        self.policy = load_policy(config.model, self.accelerator.device, adapters_seed=config.seed)
        self.policy.check_saving()
        self.params = SamplingParams(
            config.rollout.max_new_tokens, config.rollout.temperature, stop=tuple(config.rollout.stop)
        )

    def train(self) -> Metrics:
        """Run to the last step, resuming from the newest checkpoint; the model is left in ``folder/model``.

        Returns:
            The last step's metrics, also where the run had ended before.

        Raises:
            R1Error: ``folder`` holds work that was made with other settings, files or code (see ``overwrite``), or
                something else than this stage's files.
            StorageError: another process trains in ``folder``.
            Preempted: a scheduler, or Ctrl-C, asked the run to end; it left a checkpoint.
        """
        with contextlib.ExitStack() as held:
            self._claim(held)
            return self._train()

    def _train(self) -> Metrics:
        cfg = self.config
        train, evaluated = self._problems()
        state, checkpoint = self._find_checkpoint()
        difficulty = self._difficulty()  # looks at the policy before a checkpoint is loaded into it
        learner = self._learner(checkpoint)
        rollout = self._resume(state, checkpoint, learner)
        last: Metrics = dict(*figures(self.folder / "metrics.jsonl", state.step)[-1:])
        with contextlib.ExitStack() as owned:
            owned.enter_context(self.interrupt)
            owned.enter_context(learner_threads(cfg, self.accelerator.device, cores()))
            engine = build_engine(cfg, learner.backend.sampler() if cfg.rollout.engine == "torch" else self.policy)
            owned.callback(engine.close)
            engine.sync(state.version)
            scorer = owned.enter_context(self._scorer())
            if difficulty is not None:
                self._filter(difficulty, train, engine, scorer, checkpoint)
            progress = owned.enter_context(self.console.progress("training", total=cfg.grpo.steps, done=state.step))
            tracker = self._tracker(state.step if checkpoint else None)
            owned.callback(tracker.close)
            loop = Loop(
                cfg=cfg.grpo,
                experience=self._experience(train, engine, scorer),
                learner=learner,
                engine=engine,
                tracker=tracker,
                samples_per_step=cfg.tracking.samples_per_step,
                evaluate=lambda step: self._evaluate(engine, scorer, evaluated, step),
                save=lambda step, version, metrics: self._save(step, version, learner, metrics),
                drain=scorer.drain,
                step=state.step,
                version=state.version,
                rollout=rollout,
                opening={} if checkpoint is not None else {name: float(n) for name, n in train.metrics().items()},
            )
            rank, ranks = learner.backend.rank, learner.backend.ranks
            owned.enter_context(naming_lost_peers(rank, ranks, lambda: f"in step {loop.step + 1}"))
            owned.enter_context(
                naming_memory(
                    lambda: max((len(s) for s in loop.rollout.batch.samples), default=0) if loop.rollout else 0,
                    cfg.grpo.tokens_per_microbatch,
                    cfg.model.gradient_checkpointing,
                )
            )
            try:
                while loop.step < cfg.grpo.steps:
                    last = loop.train_step()
                    self._show(progress, loop.step, last)
            except Interrupted:
                self._leave(loop, learner)
        self.policy.save(self.folder / "model", write=self.accelerator.is_main_process)
        self.accelerator.wait_for_everyone()
        return last

    def _learner(self, checkpoint: Path | None) -> Learner:
        cfg = self.config
        learner = Learner(
            self.policy,
            cfg.grpo,
            self.accelerator,
            dtype=cfg.model.dtype,
            fp32_head=cfg.model.cast_lm_head_to_fp32,
            temperature=cfg.rollout.temperature,
            max_length=cfg.rollout.max_new_tokens,
            total_updates=derive(cfg).total_updates,
            seed=cfg.seed,
            resume=checkpoint,
            interrupted=lambda: self.interrupt.anywhere(learner.backend.gather),
        )
        return learner

    def _difficulty(self) -> Difficulty | None:
        if self.config.data.difficulty is None:
            return None
        ranks = self.accelerator.num_processes
        return Difficulty(
            self.config,
            self.folder,
            self.policy,
            self.accelerator,
            self.console,
            lambda: self.interrupt.anywhere(gather_object if ranks > 1 else list),
        )

    def _filter(
        self, difficulty: Difficulty, train: ProblemSets, engine: Engine, scorer: Scorer, checkpoint: Path | None
    ) -> None:
        try:
            difficulty.filter(train, engine, scorer, begun=checkpoint is not None)
        except Interrupted:
            self._mark_preempted()
            raise self.interrupt.ended(
                f"stopped while measuring difficulty; what was measured is in {difficulty.path}"
            ) from None

    def _scorer(self) -> Scorer:
        rewards, applies = training_rewards(self.config), training_applies(self.config)
        for name in idle(rewards, applies) if self.accelerator.is_main_process else ():
            log.warning(f"the reward {name} never runs: no source lists it under its rewards")
        return Scorer(rewards, self.config.scoring, applies=applies)

    def _tracker(self, resume_step: int | None) -> Tracker:
        cfg = self.config
        return build_tracker(
            cfg.tracking,
            self.folder,
            f"{cfg.name}/{self.folder.name}",
            cfg.model_dump(mode="json"),
            resume_step=resume_step,
            is_main=self.accelerator.is_main_process,
        )

    def _problems(self) -> tuple[ProblemSets, ProblemSets]:
        data = self.config.data
        train = load_problems(data.train, data.prompt, self.policy.tokenizer)
        evaluated = load_problems(data.eval, data.prompt, self.policy.tokenizer).renamed(held_out)
        check_prompts(train.problems, self.config.rollout.max_new_tokens, self.policy.model)
        if self.config.grpo.eval_every:
            check_lengths(evaluated.problems, self.config, self.policy.model)
        return ensure_disjoint(train, evaluated, data.on_overlap, read_questions(data.held_out)), evaluated

    def _experience(self, train: ProblemSets, engine: Engine, scorer: Scorer) -> Experience:
        cfg = self.config
        weights = {name: source.weight for name, source in cfg.data.train.items()}
        dynamic = cfg.rollout.dynamic_sampling
        oversample = dynamic.oversample if cfg.grpo.dynamic_sampling else 1.0
        prompts = StepPrompts(
            PromptStream(train.by_source, weights, cfg.seed), cfg.rollout.prompts_per_step, oversample
        )
        rollouts = Rollouts(engine, self.params, cfg.rollout.group_size, cfg.seed)
        parts = (prompts, rollouts, scorer, self.accelerator, self.interrupt)
        plain = PlainExperience(*parts)
        if cfg.rollout.max_staleness:
            plain = AheadExperience(
                *parts, staleness=cfg.rollout.max_staleness, steps=cfg.grpo.steps, deadline_s=cfg.grpo.deadline_s
            )
        if not cfg.grpo.dynamic_sampling:
            return plain
        return DynamicExperience(plain, dynamic, dynamic.reward or cfg.evaluate.reward)

    def _evaluate(
        self, engine: Engine, scorer: Scorer, evaluated: ProblemSets, step: int
    ) -> tuple[Metrics, list[dict[str, Any]]]:
        metrics: Metrics = {}
        shown: list[dict[str, Any]] = []
        for name, problems in evaluated.by_source.items():
            title = f"evaluating {name}"
            result = evaluate(engine, scorer, problems, self.config, self.accelerator, self.console, title, step=step)
            metrics |= {f"eval/{name}/{key}": value for key, value in result.metrics.items()}
            shown += sample_rows(result.groups, self.config.evaluate.show)
        return metrics, shown

    def _claim(self, held: contextlib.ExitStack) -> None:
        """Take the folder, as long as ``held`` lasts, or refuse it on every process."""
        failure: R1Error | None = None
        if self.accelerator.is_main_process:
            try:
                identity = Identity.of("grpo", self.config)
                claim(self.folder)
                held.enter_context(alone_in(self.folder))
                self.fingerprint, aside = take(self.folder, identity, self.overwrite, self.fingerprint)
                if aside is not None:
                    held.close()  # it went with the folder that was renamed
                    held.enter_context(alone_in(self.folder))
                    log.info(f"{self.folder} held other work, which is now in {aside}")
            except R1Error as error:
                failure = error
        self.fingerprint, message = broadcast_object_list([self.fingerprint, failure and str(failure)])
        if message:
            raise failure or R1Error(message)

    def _find_checkpoint(self) -> tuple[RunState, Path | None]:
        """The newest good checkpoint; the main process looks, so that all go on from the same one."""
        found = self.checkpoints.newest(self.fingerprint) if self.accelerator.is_main_process else None
        found = broadcast_object_list([found])[0]
        if found and found[0].step > self.config.grpo.steps:
            log.info(f"step {found[0].step} was reached before; grpo.steps {self.config.grpo.steps} ends there")
        (self.folder / PREEMPTED).unlink(missing_ok=True)
        return found or (RunState(step=0, version=0, fingerprint=self.fingerprint), None)

    def _resume(self, state: RunState, checkpoint: Path | None, learner: Learner) -> Rollout | None:
        """Load everything but the weights; returns the rollout that the run was learning from, if any."""
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

    def _save(
        self, step: int, version: int, learner: Learner, metrics: Metrics, rollout: Rollout | None = None
    ) -> Path:
        """Write a checkpoint and return where it is; collective, and fails on every process where one fails."""
        streams = learner.backend.gather([rng_state()])
        others: dict[str, Any] = {RNG: streams}
        if rollout is not None:
            others[ROLLOUT] = rollout_state(rollout.groups, rollout.batch.samples)
        state = RunState(step, version, self.fingerprint, learner.state_dict(), learner.backend.ranks)
        failure: StorageError | None = None
        saved = self.checkpoints.folder
        try:
            write = self.accelerator.is_main_process
            saved = self.checkpoints.save(state, learner.tensors(), others, write, _score(metrics))
        except StorageError as error:
            failure = error
        failures = [message for message in learner.backend.gather([failure and str(failure)]) if message]
        if failures:
            raise StorageError(failures[0]) from failure
        return saved

    def _leave(self, loop: Loop, learner: Learner) -> None:
        """Checkpoint where the run stands and end it."""
        self._save(loop.step, loop.version, learner, {}, loop.rollout)
        what = "with its rollout, " if loop.rollout is not None else ""
        self._mark_preempted()
        raise self.interrupt.ended(f"asked to end: step {loop.step} is saved {what}in {self.checkpoints.folder}")

    def _mark_preempted(self) -> None:
        if self.accelerator.is_main_process:
            self.interrupt.leave_mark(self.folder)
        self.accelerator.wait_for_everyone()  # a launcher ends the others as soon as one has left

    def _show(self, progress: Progress, step: int, metrics: Metrics) -> None:
        progress.update(done=step, **{label: metrics[name] for name, label in HEADLINES.items() if name in metrics})


def _score(metrics: Metrics) -> float | None:
    """Mean held-out pass@1 of a step that evaluated."""
    values = [value for name, value in metrics.items() if name.startswith("eval/") and name.endswith("/pass@1")]
    return sum(values) / len(values) if values else None
